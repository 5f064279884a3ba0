/* What the stand-in driver of a test host says: its tests write it as lines of text.
 *
 *   library 580.95.05            what user space has
 *   module 580.95.05             what the kernel has loaded; without the line no driver is loaded
 *   cuda 13000
 *   init 0                       what the library's start returns; -1 ends its process, -2 never returns
 *   gpu UUID TOTAL USED PERSISTENCE WATTS MIG CODE NAME      memory in MiB, WATTS -1 for a card without a
 *                                limit; CODE is what calls about it return
 *   untold 3                     what calls about processes return
 *   process INDEX PID MIB NAME   MIB is -1 where the driver does not know
 */
#ifndef STAND_IN_STATE_H
#define STAND_IN_STATE_H

#ifndef STAND_IN_STATE
#define STAND_IN_STATE "/var/lib/nvidia-stand-in/state"
#endif
#define MOST_GPUS 16
#define MOST_PROCESSES 256

struct stand_in_gpu {
    char uuid[64], name[96];
    long total, used, watts;
    int persistence, mig, code;
};

struct stand_in_process {
    int gpu, pid;
    long memory;
    char name[128];
};

struct stand_in_state {
    char library[32], module[32];
    int cuda, init, untold, gpus, processes;
    struct stand_in_gpu gpu[MOST_GPUS];
    struct stand_in_process process[MOST_PROCESSES];
};

/* Both return 0, or -1 where the file cannot be read or written. */
int stand_in_read(struct stand_in_state *state);
int stand_in_write(const struct stand_in_state *state);

#endif
