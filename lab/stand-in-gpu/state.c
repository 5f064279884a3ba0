/* Reads and writes the state of the stand-in driver. */
#include "state.h"

#include <stdio.h>
#include <string.h>

static void read_line(struct stand_in_state *state, const char *line)
{
    struct stand_in_gpu *gpu = &state->gpu[state->gpus];
    struct stand_in_process *process = &state->process[state->processes];

    if (sscanf(line, "library %31s", state->library) == 1) return;
    if (sscanf(line, "module %31s", state->module) == 1) return;
    if (sscanf(line, "cuda %d", &state->cuda) == 1) return;
    if (sscanf(line, "init %d", &state->init) == 1) return;
    if (sscanf(line, "untold %d", &state->untold) == 1) return;
    if (state->gpus < MOST_GPUS
        && sscanf(line, "gpu %63s %ld %ld %d %ld %d %d %95[^\n]", gpu->uuid, &gpu->total, &gpu->used,
                  &gpu->persistence, &gpu->watts, &gpu->mig, &gpu->code, gpu->name) == 8) {
        state->gpus++;
        return;
    }
    if (state->processes < MOST_PROCESSES
        && sscanf(line, "process %d %d %ld %127[^\n]", &process->gpu, &process->pid, &process->memory,
                  process->name) == 4)
        state->processes++;
}

int stand_in_read(struct stand_in_state *state)
{
    char line[512];
    FILE *file = fopen(STAND_IN_STATE, "re");

    memset(state, 0, sizeof *state);
    if (!file) return -1;
    while (fgets(line, sizeof line, file)) read_line(state, line);
    fclose(file);
    return 0;
}

int stand_in_write(const struct stand_in_state *state)
{
    FILE *file = fopen(STAND_IN_STATE ".new", "we");

    if (!file) return -1;
    fprintf(file, "library %s\n", state->library);
    if (*state->module) fprintf(file, "module %s\n", state->module);
    fprintf(file, "cuda %d\ninit %d\nuntold %d\n", state->cuda, state->init, state->untold);
    for (const struct stand_in_gpu *gpu = state->gpu; gpu < state->gpu + state->gpus; gpu++)
        fprintf(file, "gpu %s %ld %ld %d %ld %d %d %s\n", gpu->uuid, gpu->total, gpu->used, gpu->persistence,
                gpu->watts, gpu->mig, gpu->code, gpu->name);
    for (int number = 0; number < state->processes; number++) {
        const struct stand_in_process *process = &state->process[number];
        fprintf(file, "process %d %d %ld %s\n", process->gpu, process->pid, process->memory, process->name);
    }
    if (fclose(file)) return -1;
    return rename(STAND_IN_STATE ".new", STAND_IN_STATE);
}
