/* A stand-in for nvidia-smi: lists the GPUs that its container may see, and sets persistence and power limits.
 *
 * In a container it sees what the stand-in runtime has noted, and nothing once its GPUs are marked as lost. */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VISIBLE "/run/stand-in-gpu/visible"
#define LOST "/run/stand-in-gpu/lost"
#define FAILED 255

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

int main(int count, char **words)
{
    struct stand_in_state state;
    char kind;
    long value;

    if (stand_in_read(&state) || !*state.module) {
        printf("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n");
        return 9;
    }
    if (strcmp(state.module, state.library)) return failed("Driver/library version mismatch");
    if (!access(LOST, F_OK)) return failed("Unknown Error");
    if (count == 2 && !strcmp(words[1], "-L")) return list(&state);
    if (count == 2 && sscanf(words[1], "--persistence-mode=%ld", &value) == 1) kind = 'm';
    else if (count == 2 && sscanf(words[1], "--power-limit=%ld", &value) == 1) kind = 'p';
    else {
        printf("The stand-in for nvidia-smi knows -L, --persistence-mode and --power-limit.\n");
        return 2;
    }
    for (int index = 0; index < state.gpus; index++) {
        if (kind == 'p' && state.gpu[index].watts < 0) {
            printf("Changing power management limit is not supported for GPU: 00000000:01:00.0.\n"
                   "Treating as warning and moving on.\nAll done.\n");
            continue;
        }
        if (kind == 'm') state.gpu[index].persistence = (int)value;
        else state.gpu[index].watts = value;
    }
    if (stand_in_write(&state)) {
        printf("Insufficient Permissions\n");
        return 4;
    }
    return 0;
}
