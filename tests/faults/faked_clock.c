/* A wall clock that is set by a file: eight bytes, the seconds that it is ahead, read anew each time it is asked.

   Preloaded into a process. Other clocks stay as they are, as on a machine whose clock is set. librdkafka is told the
   true time: it waits until an instant of the wall clock, and the system, which does the waiting, knows only the true
   one. (libfaketime translates what is waited for, and has librdkafka wait for ever.) */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t seconds_ahead(void) {
    static const volatile int64_t *mapped;
    if (!mapped) {
        const char *path = getenv("FAKED_CLOCK");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (file < 0)
            return 0;
        void *found = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        close(file);
        if (found == MAP_FAILED)
            return 0;
        mapped = found;
    }
    return *mapped;
}

static int told_the_truth(const void *caller) {
    Dl_info found;
    return dladdr(caller, &found) && found.dli_fname && strstr(found.dli_fname, "librdkafka");
}

static int tell(clockid_t clock, struct timespec *now, const void *caller) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && !told_the_truth(caller))
        now->tv_sec += seconds_ahead();
    return (int)result;
}

int clock_gettime(clockid_t clock, struct timespec *now) { return tell(clock, now, __builtin_return_address(0)); }

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    tell(CLOCK_REALTIME, &precise, __builtin_return_address(0));
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    tell(CLOCK_REALTIME, &precise, __builtin_return_address(0));
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}
