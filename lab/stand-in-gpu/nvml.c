/* A stand-in for NVIDIA's management library, for test hosts without a GPU: the part of its C interface that
 * pynvml uses, with the same types, sizes and codes (NVML API Reference). It reads the stand-in driver's state at
 * each call. */
#include "state.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    NO_PERMISSION = 4,
    NOT_SUPPORTED = 3,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    LIBRARY_RM_VERSION_MISMATCH = 18,
    UNKNOWN = 999,
};

typedef int Return;
typedef struct stand_in_place *Device;

struct stand_in_place {
    int index;
};

struct memory {
    unsigned long long total, free, used;
};

struct memory_v2 {
    unsigned int version;
    unsigned long long total, reserved, free, used;
};

struct process {
    unsigned int pid;
    unsigned long long memory;
    unsigned int gpu_instance, compute_instance;
};

#define MIB (1024ULL * 1024ULL)
#define NOT_AVAILABLE (~0ULL)
#define NO_INSTANCE (~0U)

static int initialized;
static struct stand_in_state state;
static struct stand_in_place places[MOST_GPUS];

static Return started(void)
{
    if (stand_in_read(&state)) return DRIVER_NOT_LOADED;
    if (state.init == -1) abort();
    while (state.init == -2) pause();
    if (state.init) return state.init;
    if (!*state.module) return DRIVER_NOT_LOADED;
    return strcmp(state.module, state.library) ? LIBRARY_RM_VERSION_MISMATCH : SUCCESS;
}

static Return told(char *into, unsigned int length, const char *text)
{
    if (!into) return INVALID_ARGUMENT;
    return snprintf(into, length, "%s", text) < (int)length ? SUCCESS : INSUFFICIENT_SIZE;
}

/* The GPU as it is now, or what calls about it return. */
static Return gpu_of(Device device, struct stand_in_gpu **gpu)
{
    if (!initialized) return UNINITIALIZED;
    if (!device || device < places || device >= places + MOST_GPUS) return INVALID_ARGUMENT;
    if (stand_in_read(&state)) return UNKNOWN;
    if (device->index >= state.gpus) return GPU_IS_LOST;
    *gpu = &state.gpu[device->index];
    return (*gpu)->code;
}

Return nvmlInit_v2(void)
{
    Return code = started();

    if (code == SUCCESS) initialized++;
    return code;
}

Return nvmlInitWithFlags(unsigned int flags)
{
    (void)flags;
    return nvmlInit_v2();
}

Return nvmlShutdown(void)
{
    if (!initialized) return UNINITIALIZED;
    initialized--;
    return SUCCESS;
}

const char *nvmlErrorString(Return code)
{
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case FUNCTION_NOT_FOUND: return "Function Not Found";
    case GPU_IS_LOST: return "GPU is lost";
    case LIBRARY_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

Return nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    return initialized ? told(version, length, state.module) : UNINITIALIZED;
}

Return nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
    char whole[48];

    if (stand_in_read(&state)) return UNKNOWN;
    snprintf(whole, sizeof whole, "%d.%s", state.cuda / 1000, state.library);
    return told(version, length, whole);
}

Return nvmlSystemGetCudaDriverVersion(int *version)
{
    if (!version) return INVALID_ARGUMENT;
    *version = state.cuda;
    return SUCCESS;
}

Return nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    return nvmlSystemGetCudaDriverVersion(version);
}

Return nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
    if (!initialized) return UNINITIALIZED;
    for (int number = 0; number < state.processes; number++)
        if (state.process[number].pid == (int)pid) return told(name, length, state.process[number].name);
    return NOT_FOUND;
}

Return nvmlDeviceGetCount_v2(unsigned int *count)
{
    if (!initialized) return UNINITIALIZED;
    if (!count) return INVALID_ARGUMENT;
    if (stand_in_read(&state)) return UNKNOWN;
    *count = (unsigned int)state.gpus;
    return SUCCESS;
}

Return nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device *device)
{
    if (!initialized) return UNINITIALIZED;
    if (!device || stand_in_read(&state) || index >= (unsigned int)state.gpus) return INVALID_ARGUMENT;
    places[index].index = (int)index;
    *device = &places[index];
    return SUCCESS;
}

Return nvmlDeviceGetHandleByUUID(const char *uuid, Device *device)
{
    if (!initialized) return UNINITIALIZED;
    if (!uuid || !device || stand_in_read(&state)) return INVALID_ARGUMENT;
    for (int index = 0; index < state.gpus; index++)
        if (!strcmp(state.gpu[index].uuid, uuid)) return nvmlDeviceGetHandleByIndex_v2((unsigned int)index, device);
    return NOT_FOUND;
}

/* Of a lost GPU the driver still says which one it was. */
static Return said_of(Device device, struct stand_in_gpu **gpu)
{
    Return code = gpu_of(device, gpu);

    return code == GPU_IS_LOST && device->index < state.gpus ? SUCCESS : code;
}

Return nvmlDeviceGetUUID(Device device, char *uuid, unsigned int length)
{
    struct stand_in_gpu *gpu;
    Return code = said_of(device, &gpu);

    return code ? code : told(uuid, length, gpu->uuid);
}

Return nvmlDeviceGetName(Device device, char *name, unsigned int length)
{
    struct stand_in_gpu *gpu;
    Return code = said_of(device, &gpu);

    return code ? code : told(name, length, gpu->name);
}

Return nvmlDeviceGetIndex(Device device, unsigned int *index)
{
    struct stand_in_gpu *gpu;
    Return code = gpu_of(device, &gpu);

    if (!code) *index = (unsigned int)device->index;
    return code;
}

Return nvmlDeviceGetMinorNumber(Device device, unsigned int *number)
{
    return nvmlDeviceGetIndex(device, number);
}

Return nvmlDeviceGetMemoryInfo(Device device, struct memory *memory)
{
    struct stand_in_gpu *gpu;
    Return code = gpu_of(device, &gpu);

    if (code) return code;
    memory->total = (unsigned long long)gpu->total * MIB;
    memory->used = (unsigned long long)gpu->used * MIB;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

Return nvmlDeviceGetMemoryInfo_v2(Device device, struct memory_v2 *memory)
{
    struct memory found;
    Return code = nvmlDeviceGetMemoryInfo(device, &found);

    if (code) return code;
    memory->total = found.total;
    memory->reserved = 0;
    memory->free = found.free;
    memory->used = found.used;
    return SUCCESS;
}

Return nvmlDeviceGetMigMode(Device device, unsigned int *now, unsigned int *later)
{
    struct stand_in_gpu *gpu;
    Return code = gpu_of(device, &gpu);

    if (code) return code;
    if (gpu->mig < 0) return NOT_SUPPORTED;
    *now = *later = (unsigned int)gpu->mig;
    return SUCCESS;
}

Return nvmlDeviceGetPersistenceMode(Device device, unsigned int *mode)
{
    struct stand_in_gpu *gpu;
    Return code = gpu_of(device, &gpu);

    if (!code) *mode = (unsigned int)gpu->persistence;
    return code;
}

Return nvmlDeviceGetPowerManagementLimit(Device device, unsigned int *milliwatts)
{
    struct stand_in_gpu *gpu;
    Return code = gpu_of(device, &gpu);

    if (code) return code;
    if (gpu->watts < 0) return NOT_SUPPORTED;
    *milliwatts = (unsigned int)gpu->watts * 1000;
    return SUCCESS;
}

Return nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned int *milliwatts)
{
    return nvmlDeviceGetPowerManagementLimit(device, milliwatts);
}

static Return processes_of(Device device, unsigned int *count, struct process *into)
{
    struct stand_in_gpu *gpu;
    Return code = gpu_of(device, &gpu);
    unsigned int room = count ? *count : 0, found = 0;

    if (code) return code;
    if (state.untold) return state.untold;
    for (int number = 0; number < state.processes; number++) {
        const struct stand_in_process *process = &state.process[number];
        if (process->gpu != device->index) continue;
        if (into && found < room) {
            into[found].pid = (unsigned int)process->pid;
            into[found].memory = process->memory < 0 ? NOT_AVAILABLE : (unsigned long long)process->memory * MIB;
            into[found].gpu_instance = into[found].compute_instance = NO_INSTANCE;
        }
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

static Return none(Device device, unsigned int *count)
{
    struct stand_in_gpu *gpu;
    Return code = gpu_of(device, &gpu);

    if (!code) *count = 0;
    return code;
}

Return nvmlDeviceGetComputeRunningProcesses_v2(Device device, unsigned int *count, struct process *into)
{
    return processes_of(device, count, into);
}

Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned int *count, struct process *into)
{
    return processes_of(device, count, into);
}

Return nvmlDeviceGetGraphicsRunningProcesses_v2(Device device, unsigned int *count, struct process *into)
{
    (void)into;
    return none(device, count);
}

Return nvmlDeviceGetGraphicsRunningProcesses_v3(Device device, unsigned int *count, struct process *into)
{
    (void)into;
    return none(device, count);
}

Return nvmlDeviceGetMPSComputeRunningProcesses_v3(Device device, unsigned int *count, struct process *into)
{
    (void)into;
    return none(device, count);
}
