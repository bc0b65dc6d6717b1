/* Process 1 of a pod: keeps its namespaces, reaps orphans of its containers, ends on SIGINT and SIGTERM. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

int main(void) {
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGINT);
    sigaddset(&awaited, SIGTERM);
    /* Blocked and waited for, not handled: no signal that arrives between two waits is lost. */
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    for (;;) {
        int received = 0;
        if (sigwait(&awaited, &received) != 0)
            return 1;
        if (received != SIGCHLD)
            return 0;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}
