/* Process 1 of a pod: keeps its namespaces, reaps the orphans of its containers, ends when told to. */
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
    /* Blocked and waited for, not handled: nothing can arrive between two waits and be lost. */
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    for (;;) {
        int told = 0;
        if (sigwait(&awaited, &told) != 0)
            return 1;
        if (told != SIGCHLD)
            return 0;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}
