/* The server whose output is measured. It writes a mark (its PID and the monotonic time in
 * nanoseconds, 8 bytes each) into a FIFO when it is there, waits for a byte from a second FIFO,
 * writes a second mark, and then the bytes: the same line of 100 bytes again and again, cut into
 * writes of the given size. Then it waits for its end.
 *
 *   writer MARKS GO BYTES SIZE
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 100, MOST = 65536 };

static int mark(int fifo) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t mark[2] = {(uint64_t)getpid(), (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec};
    return write(fifo, mark, sizeof mark) != (ssize_t)sizeof mark;
}

int main(int count, char **words) {
    static char lines[MOST + LINE];
    if (count != 5)
        return 1;
    int marks = open(words[1], O_WRONLY | O_CLOEXEC), go = open(words[2], O_RDONLY | O_CLOEXEC);
    long long bytes = atoll(words[3]), done = 0;
    long size = atol(words[4]);
    if (marks < 0 || go < 0 || size < 1 || size > MOST)
        return 1;
    for (long i = 0; i < (long)sizeof lines; i++)
        lines[i] = i % LINE == LINE - 1 ? '\n' : (char)('a' + i % LINE % 26);
    char byte;
    if (mark(marks) || read(go, &byte, 1) != 1 || mark(marks))
        return 1;
    while (done < bytes) {
        size_t left = (size_t)(bytes - done);
        ssize_t written = write(1, lines + done % LINE, left < (size_t)size ? left : (size_t)size);
        if (written < 1)
            return 1;
        done += written;
    }
    for (;;)
        pause();
}
