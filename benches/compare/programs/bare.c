/* A supervisor without any features, to compare with: posix_spawn, a pidfd for each server, one
 * epoll loop. SIGTERM: sends SIGTERM to all servers and ends when they have ended.
 *
 *   bare COUNT PROGRAM FIFO
 */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct server {
    pid_t pid;
    int pidfd;
};

static int spawn_one(struct server *server, int epoll, posix_spawnattr_t *attributes, char **words) {
    if (posix_spawn(&server->pid, words[0], 0, attributes, words, environ))
        return 1;
    server->pidfd = (int)syscall(SYS_pidfd_open, server->pid, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = server};
    return server->pidfd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, server->pidfd, &event);
}

int main(int count, char **words) {
    int servers_count = count == 4 ? atoi(words[1]) : 0;
    char *server_words[] = {words[2], words[3], 0};
    struct server *servers = calloc((size_t)servers_count, sizeof *servers);
    sigset_t term, none;
    sigemptyset(&none);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int epoll = epoll_create1(EPOLL_CLOEXEC), signals = signalfd(-1, &term, SFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = 0};
    if (servers_count < 1 || !servers || epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &event))
        return 1;
    for (int i = 0; i < servers_count; i++)
        if (spawn_one(&servers[i], epoll, &attributes, server_words))
            return 1;
    int is_ending = 0;
    for (int up = servers_count; up > 0;) {
        struct epoll_event events[64];
        int found = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < found; i++) {
            struct server *server = events[i].data.ptr;
            if (!server) {
                is_ending = 1;
                epoll_ctl(epoll, EPOLL_CTL_DEL, signals, 0);
                for (int j = 0; j < servers_count; j++)
                    if (servers[j].pid > 0)
                        kill(servers[j].pid, SIGTERM);
                continue;
            }
            waitpid(server->pid, 0, 0);
            server->pid = 0;
            /* close alone is not enough: a child that is not through its exec yet has a copy, and
             * this dead pidfd would be reported once more, for the successor */
            epoll_ctl(epoll, EPOLL_CTL_DEL, server->pidfd, 0);
            close(server->pidfd);
            if (is_ending)
                up--;
            else if (spawn_one(server, epoll, &attributes, server_words))
                return 1;
        }
    }
    return 0;
}
