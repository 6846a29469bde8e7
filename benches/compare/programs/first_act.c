/* The server of the comparison: its first act is to write its PID and the monotonic time in
 * nanoseconds, 8 bytes each, into a FIFO; then it waits for its end.
 *
 *   first_act [FIFO]                  $FIRST_ACT_FIFO comes first (s6 gives a word of its own); with
 *                                     $FIRST_ACT_LINES set it also writes "PID NUMBER" to standard
 *                                     output every 10 ms
 *   first_act --fork PIDFILE FIFO     the same as a daemon: for a supervisor that wants a PID file
 *   first_act --kill PIDFILE          SIGTERM to that daemon
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int serve(const char *path) {
    int fifo = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t mark[2] = {(uint64_t)getpid(), (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec};
    if (write(fifo, mark, sizeof mark) != (ssize_t)sizeof mark)
        return 1;
    close(fifo);
    if (getenv("FIRST_ACT_LINES")) {
        const struct timespec pause_time = {0, 10000000};
        for (long number = 0;; number++) {
            dprintf(1, "%d %ld\n", (int)getpid(), number);
            nanosleep(&pause_time, 0);
        }
    }
    for (;;)
        pause();
}

int main(int count, char **words) {
    if (count == 4 && !strcmp(words[1], "--fork")) {
        pid_t child = fork();
        if (child == 0) {
            setsid();
            /* nobody reads the standard output of a daemon */
            unsetenv("FIRST_ACT_LINES");
            return serve(words[3]);
        }
        FILE *file = fopen(words[2], "w");
        if (child < 0 || !file)
            return 1;
        fprintf(file, "%d\n", (int)child);
        return fclose(file) != 0;
    }
    if (count == 3 && !strcmp(words[1], "--kill")) {
        int pid = 0;
        FILE *file = fopen(words[2], "r");
        return !file || fscanf(file, "%d", &pid) != 1 || pid < 2 || kill(pid, SIGTERM);
    }
    const char *fifo = getenv("FIRST_ACT_FIFO");
    return serve(fifo ? fifo : words[1]);
}
