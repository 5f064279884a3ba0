/* A stand-in for nvidia-smi: lists the GPUs that its container may see, answers queries about them and about whoever
 * computes on them, and sets persistence and power limits.
 *
 * In a container it sees what the stand-in runtime has noted, and nothing once its GPUs are marked as lost. */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef NOTES
#define NOTES "/run/nvidia-stand-in"
#endif
#define VISIBLE NOTES "/visible"
#define LOST NOTES "/lost"
#define FAILED 255
#define INVALID 2
#define MOST_FIELDS 8

struct query {
    const char *const *known;
    const char *unit;
    int count, chosen[MOST_FIELDS];
};

static const char *const OF_GPUS[] = {"driver_version", "index", "uuid", "memory.total", NULL};
static const char *const OF_PROCESSES[] = {"gpu_uuid", "pid", "used_memory", NULL};

static int failed(const char *reason)
{
    printf("Failed to initialize NVML: %s\n", reason);
    return FAILED;
}

/* What the container was given, or nothing on the host, where all GPUs are seen. */
static const char *visible(void)
{
    static char given[1024];
    FILE *file = fopen(VISIBLE, "re");

    if (!file) return NULL;
    given[fread(given, 1, sizeof given - 1, file)] = 0;
    fclose(file);
    return given;
}

static int list(const struct stand_in_state *state)
{
    const char *given = visible();

    for (int index = 0, seen = 0; index < state->gpus; index++) {
        const struct stand_in_gpu *gpu = &state->gpu[index];
        if (given && !strstr(given, gpu->uuid)) continue;
        if (gpu->code) printf("Unable to determine the device handle for GPU%d: GPU is lost\n", seen);
        else printf("GPU %d: %s (UUID: %s)\n", seen, gpu->name, gpu->uuid);
        seen++;
    }
    return 0;
}

static int choose(struct query *query, char *names)
{
    for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
        int field = 0;
        while (query->known[field] && strcmp(query->known[field], name)) field++;
        if (!query->known[field] || query->count == MOST_FIELDS) {
            printf("Field \"%s\" is not a valid field to query.\n\n", name);
            return INVALID;
        }
        query->chosen[query->count++] = field;
    }
    return 0;
}

static const char *told(char into[32], long value, const char *unit)
{
    if (value < 0) return "[N/A]";
    snprintf(into, 32, "%ld%s", value, unit);
    return into;
}

static void print_row(const struct query *query, const char *const *values)
{
    for (int column = 0; column < query->count; column++)
        printf("%s%s", values[query->chosen[column]], column + 1 < query->count ? ", " : "\n");
}

static void print_processes(const struct query *query, const struct stand_in_state *state, int index)
{
    const char *uuid = state->gpu[index].uuid;
    char pid[32], memory[32];

    if (state->untold) {
        print_row(query, (const char *[]){uuid, "[N/A]", "[N/A]"});
        return;
    }
    for (int number = 0; number < state->processes; number++) {
        const struct stand_in_process *process = &state->process[number];
        if (process->gpu != index) continue;
        print_row(query, (const char *[]){uuid, told(pid, process->pid, ""),
                                          told(memory, process->memory, query->unit)});
    }
}

static int answer(const struct query *query, const struct stand_in_state *state)
{
    const char *given = visible();
    char number[32], total[32];

    for (int index = 0, seen = 0; index < state->gpus; index++) {
        const struct stand_in_gpu *gpu = &state->gpu[index];
        if (given && !strstr(given, gpu->uuid)) continue;
        if (gpu->code) {
            printf("Unable to determine the device handle for GPU%d: GPU is lost\n", seen);
            return gpu->code;
        }
        if (query->known == OF_PROCESSES) print_processes(query, state, index);
        else print_row(query, (const char *[]){state->module, told(number, seen, ""), gpu->uuid,
                                               told(total, gpu->total, query->unit)});
        seen++;
    }
    return 0;
}

/* Whether it is a query, with all of its fields in a copy. */
static const char *const *asked(const char *word, char names[256])
{
    if (sscanf(word, "--query-gpu=%255s", names) == 1) return OF_GPUS;
    return sscanf(word, "--query-compute-apps=%255s", names) == 1 ? OF_PROCESSES : NULL;
}

static const char *unit_of(const char *format)
{
    if (!strcmp(format, "--format=csv,noheader")) return " MiB";
    return strcmp(format, "--format=csv,noheader,nounits") ? NULL : "";
}

static int set(struct stand_in_state *state, char kind, long value)
{
    for (int index = 0; index < state->gpus; index++) {
        if (kind == 'p' && state->gpu[index].watts < 0) {
            printf("Changing power management limit is not supported for GPU: 00000000:01:00.0.\n"
                   "Treating as warning and moving on.\nAll done.\n");
            continue;
        }
        if (kind == 'm') state->gpu[index].persistence = (int)value;
        else state->gpu[index].watts = value;
    }
    if (stand_in_write(state)) {
        printf("Insufficient Permissions\n");
        return 4;
    }
    return 0;
}

int main(int count, char **words)
{
    struct stand_in_state state;
    struct query query = {0};
    char names[256];
    long value;

    if (stand_in_read(&state) || !*state.module) {
        printf("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n");
        return 9;
    }
    if (strcmp(state.module, state.library)) return failed("Driver/library version mismatch");
    if (!access(LOST, F_OK)) return failed("Unknown Error");
    if (count == 2 && !strcmp(words[1], "-L")) return list(&state);
    if (count == 2 && sscanf(words[1], "--persistence-mode=%ld", &value) == 1) return set(&state, 'm', value);
    if (count == 2 && sscanf(words[1], "--power-limit=%ld", &value) == 1) return set(&state, 'p', value);
    if (count == 3 && (query.known = asked(words[1], names)) && (query.unit = unit_of(words[2]))) {
        int code = choose(&query, names);
        return code ? code : answer(&query, &state);
    }
    printf("The stand-in for nvidia-smi knows -L, --persistence-mode, --power-limit, and --query-gpu and\n"
           "--query-compute-apps with --format=csv,noheader and no more than nounits behind it.\n");
    return INVALID;
}
