// SPDX-License-Identifier: Apache-2.0

// A program in a Keep that tests the microkernel from inside, or attacks it. Its first words say
// what to do: the test writes them into the image.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

volatile char mode[32] = "ENARX GUEST MODE";

#define KERNEL 0xffff800000000000ul
#define SALLYPORT 0x700000000000ul
#define SALLYPORT_SIZE (2ul << 20)
#define VDSO 0x700010000000ul
#define RING 0x454e0002
#define WAIT 0x454e0003

static void say(const char *format, long value) {
    char line[200];
    ssize_t done = write(2, line, snprintf(line, sizeof line, format, value));
    (void)done;
}

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            say("line %ld: " #condition "\n", __LINE__);                                           \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static long call(long number, long a, long b, long c, long d) {
    register long r10 asm("r10") = d, r8 asm("r8") = -1, r9 asm("r9") = 0;
    long result;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}

// `clone`; the new thread uses its stack at once.
static long clone_to(long flags, unsigned long stack, long tid) {
    register long r10 asm("r10") = tid, r8 asm("r8") = 0;
    long result;
    asm volatile("syscall\n test %%rax, %%rax\n jnz 1f\n push %%rax\n 1:"
                 : "=a"(result)
                 : "a"(SYS_clone), "D"(flags), "S"(stack), "d"(tid), "r"(r10), "r"(r8)
                 : "rcx", "r11", "memory");
    return result;
}

static char data[64] __attribute__((aligned(64))) = {(char)0xc3};

static char *map(size_t size) {
    char *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

// ---- what must work

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static volatile long sum, waiting;

static void *adder(void *argument) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        sum++;
        pthread_mutex_unlock(&mutex);
    }
    return argument;
}

static void *waiter(void *argument) {
    pthread_mutex_lock(&mutex);
    waiting++;
    pthread_cond_broadcast(&condition);
    while (sum >= 0)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    return argument;
}

static int threads(void) {
    pthread_t thread[3];
    for (int round = 0; round < 10; round++) {
        sum = 0;
        for (long i = 0; i < 3; i++)
            CHECK(pthread_create(thread + i, 0, adder, (void *)i) == 0);
        adder(0);
        for (long i = 0; i < 3; i++) {
            void *result;
            CHECK(pthread_join(thread[i], &result) == 0 && result == (void *)i);
        }
        CHECK(sum == 80000);
    }
    for (long i = 0; i < 3; i++)
        CHECK(pthread_create(thread + i, 0, waiter, 0) == 0);
    pthread_mutex_lock(&mutex);
    while (waiting < 3)
        pthread_cond_wait(&condition, &mutex);
    sum = -1;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    for (long i = 0; i < 3; i++)
        CHECK(pthread_join(thread[i], 0) == 0);
    return 0;
}

static volatile int stop, seen;
static volatile long spins;
static volatile char *volatile watched;

static void *watcher(void *argument) {
    while (!stop) {
        seen = watched[0];
        spins++;
    }
    return argument;
}

static void spin(void) {
    for (long now = spins; spins < now + 3;)
        ;
}

// Frames are taken away while another vCPU uses them and never enters the kernel by itself.
static int shootdown(void) {
    pthread_t thread;
    watched = map(1 << 20);
    watched[0] = 1;
    CHECK(pthread_create(&thread, 0, watcher, 0) == 0);
    for (int i = 0; i < 50; i++) {
        watched[0] = 5;
        while (seen != 5)
            ;
        CHECK(madvise((void *)watched, 4096, MADV_DONTNEED) == 0);
        spin();
        CHECK(seen == 0);
    }
    stop = 1;
    CHECK(pthread_join(thread, 0) == 0);
    return 0;
}

static sigjmp_buf back;
static volatile int caught;
static void *volatile where;

static void handler(int number, siginfo_t *info, void *context) {
    (void)context;
    caught = number;
    where = info->si_addr;
    siglongjmp(back, 1);
}

static void skip(int number, siginfo_t *info, void *context) {
    (void)info;
    caught = number;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static void handle(void (*with)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_flags = SA_SIGINFO | flags};
    action.sa_sigaction = with;
    int numbers[] = {SIGSEGV, SIGILL, SIGFPE};
    for (int i = 0; i < 3; i++)
        CHECK(sigaction(numbers[i], &action, 0) == 0);
}

#define TRAPS(number, code)                                                                        \
    do {                                                                                           \
        caught = 0;                                                                                \
        if (!sigsetjmp(back, 1)) {                                                                 \
            code;                                                                                  \
            CHECK(!"no trap");                                                                     \
        }                                                                                          \
        CHECK(caught == number);                                                                   \
    } while (0)

// Code that runs wherever it is copied to.
asm(".globl blob, blob_end\n"
    "blob:\n"
    "blob_load: movzbl (%rdi), %eax\n ret\n"
    "blob_store: movb $2, (%rdi)\n ret\n"
    "blob_undefined: ud2\n ret\n"
    "blob_divide: mov %rdi, %rax\n cqo\n idiv %rsi\n ret\n"
    // (from, to): ud2 between the loads and the stores of the vector registers; R12 as well.
    "blob_keep: push %r12\n mov $77, %r12\n call load_vectors\n ud2\n call store_vectors\n"
    "mov %r12, %rax\n pop %r12\n ret\n"
    // (from, to, stop, rounds): spins between the loads and the stores until *stop.
    "blob_spin: call load_vectors\n"
    "1: dec %rcx\n jz 2f\n cmpl $0, (%rdx)\n je 1b\n 2: call store_vectors\n ret\n"
    // (from, to, stop, rounds): copies 512 bytes again and again until *stop.
    "blob_copy: call load_vectors\n call store_vectors\n dec %rcx\n jz 1f\n cmpl $0, (%rdx)\n"
    "je blob_copy\n 1: ret\n"
    "load_vectors:\n"
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovups \\n*32(%rdi), %ymm\\n\n .endr\n ret\n"
    "store_vectors:\n"
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovups %ymm\\n, \\n*32(%rsi)\n .endr\n ret\n"
    "blob_end:\n");
extern char blob[], blob_end[], blob_load[], blob_store[], blob_undefined[], blob_divide[],
    blob_keep[], blob_spin[], blob_copy[];

// Where compiled WebAssembly lies (mmap), and where the runtime's own code does.
#define COMPILED ((char *)0x1f0000000000)
#define RUNTIME ((char *)0x20000000)

static char *place(char *at) {
    CHECK(mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
    memcpy(at, blob, blob_end - blob);
    CHECK(mprotect(at, 4096, PROT_READ | PROT_EXEC) == 0);
    return at;
}

static long run(char *place, char *code, const void *a, const void *b) {
    return ((long (*)(const void *, const void *))(place + (code - blob)))(a, b);
}

static void clobber(void) { asm volatile("vzeroall" ::: "memory"); }

static void fill(unsigned char *bytes, int seed) {
    for (int i = 0; i < 512; i++)
        bytes[i] = i * 7 + seed;
}

static int traps(void) {
    handle(handler, 0);
    char *code = place(COMPILED), *page = map(1 << 20);
    page[0] = 9;
    CHECK(mprotect(page, 4096, PROT_NONE) == 0);
    TRAPS(SIGSEGV, run(code, blob_store, page, 0));
    CHECK(where == page);
    TRAPS(SIGSEGV, run(code, blob_load, page, 0));
    CHECK(mprotect(page, 4096, PROT_READ) == 0 && run(code, blob_load, page, 0) == 9);
    TRAPS(SIGILL, run(code, blob_undefined, 0, 0));
    TRAPS(SIGFPE, run(code, blob_divide, (void *)5, 0));
    TRAPS(SIGFPE, run(code, blob_divide, (void *)INT64_MIN, (void *)-1l));
    TRAPS(SIGSEGV, run(code, blob_load, (void *)8, 0));
    CHECK(munmap(page, 1 << 20) == 0);
    TRAPS(SIGSEGV, run(code, blob_store, page, 0));

    stack_t stack = {.ss_sp = map(65536), .ss_size = 65536};
    CHECK(sigaltstack(&stack, 0) == 0);
    handle(skip, SA_ONSTACK);
    // Registers survive a handler that returns, vector registers in their whole width.
    static unsigned char from[512], to[512];
    fill(from, 3);
    CHECK(run(code, blob_keep, from, to) == 77);
    CHECK(caught == SIGILL && memcmp(from, to, 512) == 0);
    return 0;
}

// Faults that are no trap although there are handlers.
static int no_traps(int which) {
    handle(handler, 0);
    char *compiled = place(COMPILED), *runtime = place(RUNTIME), *page = map(4096);
    page[0] = 9;
    CHECK(mprotect(page, 4096, PROT_READ) == 0);
    switch (which) {
    case 0: TRAPS(SIGSEGV, run(compiled, blob_store, page, 0)); break;
    case 1: TRAPS(SIGSEGV, run(runtime, blob_load, (void *)8, 0)); break;
    case 2: TRAPS(SIGILL, run(runtime, blob_undefined, 0, 0)); break;
    case 3: TRAPS(SIGFPE, run(runtime, blob_divide, (void *)5, 0)); break;
    case 4: TRAPS(SIGSEGV, ((void (*)(void))page)()); break;
    case 5: TRAPS(SIGSEGV, run(compiled, blob_load, (void *)KERNEL, 0)); break;
    }
    return 0;
}

static volatile int entered;

static void forged(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    entered = 1;
    say("handler entered for %#lx\n", (long)info->si_addr);
    clobber();
}

static void *spin_with_vectors(void *argument) {
    long how = (long)argument;
    static unsigned char from[512], to[512];
    fill(from, how);
    memset(to, 1, 512);
    char *code = place(how & 2 ? COMPILED : RUNTIME);
    char *fresh = map(64 << 20);
    if (how & 1)
        fresh[32 << 20] = 1;
    long (*run)(void *, void *, volatile int *, long) = (void *)(code + ((how & 4 ? blob_copy : blob_spin) - blob));
    for (double start = now(); !entered && now() < start + 3;) {
        run(from, to, &entered, 10000000);
        if (memcmp(from, to, 512))
            say("the vector registers are not what they were\n", 0);
    }
    return argument;
}

// Waits for an exception that the host injects: after a page fault or not, in compiled code or not.
static int wait_for_injection(long how) {
    handle(forged, 0);
    if (how & 8) {
        // A vCPU of its own, whose stack has its frames.
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        char *stack = map(1 << 20);
        memset(stack, 0, 1 << 20);
        CHECK(pthread_attr_setstack(&attributes, stack, 1 << 20) == 0);
        CHECK(pthread_create(&thread, &attributes, spin_with_vectors, (void *)how) == 0);
        CHECK(pthread_join(thread, 0) == 0);
    } else {
        spin_with_vectors((void *)how);
    }
    return entered;
}

static int memory(void) {
    char *big = mmap(0, 64ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(big != MAP_FAILED);
    char *middle = big + (7ul << 30) + 4096;
    CHECK(mprotect(middle, 3 << 20, PROT_READ | PROT_WRITE) == 0);
    memset(middle, 7, 3 << 20);
    CHECK(madvise(middle, 3 << 20, MADV_DONTNEED) == 0);
    for (int i = 0; i < 3 << 20; i += 4096)
        CHECK(middle[i] == 0);
    CHECK(mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EACCES);
    CHECK(munmap(big, 64ul << 30) == 0);
    // Memory that was given back is there again, zeroed.
    for (int round = 0; round < 8; round++) {
        char *again = map(64 << 20);
        for (long i = 0; i < 64 << 20; i += 4096)
            CHECK(again[i] == 0);
        memset(again, 1, 64 << 20);
        CHECK(munmap(again, 64 << 20) == 0);
    }
    char *heap = sbrk(8 << 20);
    memset(heap, 3, 8 << 20);
    sbrk(-(8 << 20));
    heap = sbrk(8 << 20);
    for (long i = 4096; i < 8 << 20; i += 4096)
        CHECK(heap[i] == 0);
    return 0;
}

static int clocks(void) {
    struct timespec last = {0}, next;
    double start = now();
    for (int i = 0; i < 100000; i++) {
        CHECK(clock_gettime(CLOCK_MONOTONIC, &next) == 0);
        CHECK(next.tv_sec > last.tv_sec ||
              (next.tv_sec == last.tv_sec && next.tv_nsec >= last.tv_nsec));
        last = next;
    }
    // Not by system calls, each of which takes 24 microseconds or more.
    CHECK(now() - start < 1.0);
    struct timespec nap = {0, 20000000};
    start = now();
    CHECK(nanosleep(&nap, 0) == 0);
    CHECK(now() - start >= 0.02);
    struct timespec wall;
    CHECK(clock_gettime(CLOCK_REALTIME, &wall) == 0 && wall.tv_sec > 1700000000);
    return 0;
}

static long read_clock(int how, clockid_t clock) {
    struct timespec time;
    // By the vDSO, or by a system call.
    CHECK((how ? call(SYS_clock_gettime, clock, (long)&time, 0, 0) : clock_gettime(clock, &time)) == 0);
    return time.tv_sec * 1000000000l + time.tv_nsec;
}

// All ways to the time are one, as if the counter had been ahead and came back: the page says what was given out.
static int clock_never_back(void) {
    clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
    volatile unsigned long *page = (void *)(VDSO + 4096);
    long last = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 1000; i++) {
            long now = read_clock(i / 4 % 2, clocks[i % 4]);
            CHECK(now >= last);
            last = now;
        }
        // Ten seconds ahead.
        last += 10000000000;
        page[3] = last;
        CHECK(read_clock(round % 2, CLOCK_REALTIME) >= last + (long)page[2]);
    }
    // A counter at its end: bounded, by both ways.
    page[0] = 0;
    page[1] = -1ul;
    for (int how = 0; how < 2; how++)
        CHECK(read_clock(how, CLOCK_MONOTONIC) == 1l << 62);
    return 0;
}

static int randomness(void) {
    unsigned char one[1000], two[1000];
    CHECK(getrandom(one, 1000, 0) == 1000 && getrandom(two, 1000, 0) == 1000);
    CHECK(memcmp(one, two, 1000) != 0);
    int zeros = 0;
    for (int i = 0; i < 1000; i++)
        zeros += one[i] == 0;
    CHECK(zeros < 50);
    return 0;
}

// ---- what must fail cleanly

static int bad_calls(void) {
    for (long number = 0; number < 1024; number++) {
        switch (number) {
        case SYS_rt_sigreturn: case SYS_clone: case SYS_exit: case SYS_exit_group: case SYS_tgkill:
        case SYS_arch_prctl: case SYS_set_tid_address: case SYS_madvise: case SYS_rt_sigprocmask:
        case SYS_sched_yield: case SYS_poll: case SYS_prctl: case SYS_set_robust_list:
        case SYS_getpid: case SYS_gettid: case SYS_brk: case SYS_futex:
            continue;
        }
        long result = call(number, -1, -1, -1, -1);
        if (result >= 0)
            say("system call %ld succeeded\n", number);
        CHECK(result < 0 && result > -4096);
    }
    unsigned long places[] = {KERNEL, KERNEL + 0x10000, 0xffffffff80010000, 0xffffffff80201000,
                              0xfffffffffffffff8, 0x800000000000, 0x7ffffffff000, 8, 0xfff8};
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        long at = places[i];
        CHECK(call(SYS_getrandom, at, 8, 0, 0) == -EFAULT);
        CHECK(call(SYS_clock_gettime, 1, at, 0, 0) == -EFAULT);
        CHECK(call(SYS_rt_sigaction, 11, at, 0, 8) == -EFAULT);
        CHECK(call(SYS_rt_sigaction, 11, 0, at, 8) == -EFAULT);
        CHECK(call(SYS_sigaltstack, at, 0, 0, 0) == -EFAULT);
        CHECK(call(SYS_write, 2, at, 8, 0) == -EFAULT);
        CHECK(call(SYS_nanosleep, at, 0, 0, 0) == -EFAULT);
        CHECK(call(SYS_sysinfo, at, 0, 0, 0) == -EFAULT);
        CHECK(call(SYS_futex, at, 0, 0, 0) == -EFAULT);
        CHECK(call(SYS_arch_prctl, 0x1003, at, 0, 0) == -EFAULT);
        CHECK(clone_to(0x3d0f00, (long)data, at) == -EFAULT);
        CHECK(call(SYS_mmap, at & ~4095, 4096, 3, MAP_FIXED | MAP_ANONYMOUS) < 0);
        CHECK(call(SYS_munmap, at & ~4095, 4096, 0, 0) < 0);
        CHECK(call(SYS_mprotect, at & ~4095, 4096, 3, 0) < 0);
    }
    CHECK(call(SYS_arch_prctl, 0x1002, KERNEL, 0, 0) == -EINVAL);
    CHECK(call(SYS_arch_prctl, 0x1001, 0x800000000000, 0, 0) == -EINVAL);
    CHECK(call(SYS_munmap, 0x10000, -4096, 0, 0) == -EINVAL);
    CHECK(call(SYS_mmap, 0, -4096, 3, MAP_ANONYMOUS) < 0);
    CHECK(call(SYS_mmap, 0, 1ul << 46, 3, MAP_ANONYMOUS) == -ENOMEM);
    return 0;
}

static int pinned(void) {
    unsigned long places[] = {SALLYPORT, SALLYPORT + 4096, VDSO, VDSO + 4096};
    for (int i = 0; i < 4; i++) {
        long at = places[i];
        CHECK(call(SYS_munmap, at, 4096, 0, 0) == -EACCES);
        CHECK(call(SYS_mprotect, at, 4096, PROT_READ | PROT_WRITE, 0) == -EACCES);
        CHECK(call(SYS_mprotect, at, 4096, 0, 0) == -EACCES);
        CHECK(call(SYS_madvise, at, 4096, MADV_DONTNEED, 0) == -EACCES);
        CHECK(call(SYS_mmap, at, 4096, 3, MAP_FIXED | MAP_ANONYMOUS) == -EACCES);
    }
    CHECK(now() > 0);
    // A removal that ends at a pinned page leaves nothing stale behind.
    char *before = (char *)VDSO - 4096;
    CHECK(mmap(before, 4096, 3, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) == before);
    before[0] = 1;
    CHECK(call(SYS_munmap, (long)before, 8192, 0, 0) == -EACCES);
    handle(handler, 0);
    char *code = place(COMPILED);
    TRAPS(SIGSEGV, run(code, blob_store, before, 0));
    return 0;
}

static void *sleeper(void *argument) {
    for (;;)
        call(SYS_futex, (long)&stop, 0, 0, 0);
    return argument;
}

static int many_threads(void) {
    pthread_t thread;
    int count = 0, result;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    while (!(result = pthread_create(&thread, &attributes, sleeper, 0)))
        CHECK(++count < 100);
    CHECK(result == EAGAIN);
    return count;
}

// Flags and segment bases that user code may set do no harm to the kernel.
static int flags(void) {
    char *page = map(64 << 20);
    unsigned long masks[] = {0x40000 /* AC */, 0x4000 /* NT */, 0x400 /* DF */, 0x200000 /* ID */};
    for (int i = 0; i < 4; i++) {
        char *fresh = page + (i << 24);
        long result;
        asm volatile("pushfq\n orq %2, (%%rsp)\n popfq\n movb $1, (%1)\n mov $186, %%eax\n syscall\n"
                     "pushfq\n andq $~0x44400, (%%rsp)\n popfq"
                     : "=&a"(result)
                     : "r"(fresh), "r"(masks[i])
                     : "rcx", "r11", "memory", "cc");
        CHECK(result == 1 && fresh[0] == 1);
    }
    unsigned long bases[] = {KERNEL, 0xffffffff80200000, 0, 0x7ffffffff000};
    for (int i = 0; i < 4; i++) {
        unsigned long kept;
        asm volatile("wrgsbase %0" ::"r"(bases[i]));
        CHECK(call(SYS_gettid, 0, 0, 0, 0) == 1);
        page[(5 << 22) + (i << 21)] = 1;
        asm volatile("rdgsbase %0" : "=r"(kept));
        CHECK(kept == bases[i]);
    }
    return 0;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Winfinite-recursion"
static int overflow(int depth) {
    volatile char frame[4096];
    frame[0] = depth;
    return overflow(depth + 1) + frame[0];
}
#pragma GCC diagnostic pop

static void exhaust(void) {
    char *all = mmap(0, 64ul << 30, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(all != MAP_FAILED);
    for (unsigned long i = 0; i < 64ul << 30; i += 4096)
        all[i] = 1;
}

// `int n; ret` for every n, four bytes apart.
asm(".globl interrupts\ninterrupts:\n.set n, 0\n.rept 256\n.byte 0xcd, n, 0xc3, 0x90\n"
    ".set n, n + 1\n.endr");
extern char interrupts[];

static void privileged(int which) {
    static struct { unsigned short limit; unsigned long base; } __attribute__((packed)) table;
    switch (which) {
    case 'a': asm volatile("hlt"); break;
    case 'b': asm volatile("cli"); break;
    case 'c': asm volatile("sti"); break;
    case 'd': asm volatile("lgdt %0" ::"m"(table)); break;
    case 'e': asm volatile("lidt %0" ::"m"(table)); break;
    case 'f': asm volatile("ltr %w0" ::"r"(0x28)); break;
    case 'g': asm volatile("mov %0, %%cr0" ::"r"(0x10l)); break;
    case 'h': asm volatile("mov %0, %%cr3" ::"r"(0x1000l)); break;
    case 'i': asm volatile("mov %0, %%cr4" ::"r"(0l)); break;
    case 'j': asm volatile("wrmsr" ::"c"(0xc0000082), "a"(0), "d"(0)); break;
    case 'k': asm volatile("rdmsr" ::"c"(0xc0000082) : "eax", "edx"); break;
    case 'l': asm volatile("invlpg (%0)" ::"r"(data)); break;
    case 'm': asm volatile("wbinvd"); break;
    case 'n': asm volatile("swapgs"); break;
    case 'o': asm volatile("sysretq"); break;
    case 'p': asm volatile("clts"); break;
    case 'q': asm volatile("mov %0, %%dr7" ::"r"(0x401l)); break;
    case 'r': asm volatile("xsetbv" ::"c"(0), "a"(1), "d"(0)); break;
    case 's': asm volatile("out %%eax, %%dx" ::"a"(1), "d"(0xe00)); break;
    case 't': asm volatile("in %%dx, %%al" ::"d"(0x60) : "eax"); break;
    case 'u': asm volatile("outsb" ::"S"(data), "d"(0x3f8)); break;
    case 'v': asm volatile("pushq $0x08\n pushq %0\n lretq" ::"r"(KERNEL)); break;
    case 'w': asm volatile("mov %0, %%ss" ::"r"(0x10)); break;
    case 'x': asm volatile("mov %%cr3, %0" : "=r"(table.base)); break;
    case 'y': asm volatile(".byte 0xf1"); break;
    case 'z': asm volatile("int3"); break;
    case 'A': asm volatile("sysenter"); break;
    case 'B': asm volatile("pushfq\n orq $0x100, (%rsp)\n popfq\n nop"); break;
    case 'C': asm volatile("lldt %w0" ::"r"(0x10)); break;
    case 'D': asm volatile("movabs $0x800000000000, %rax\n mov %rax, %rsp\n push %rax"); break;
    case 'E': asm volatile("pushq $0x10\n pushq %0\n pushq $2\n pushq $8\n pushq %0\n iretq" ::"r"(KERNEL)); break;
    case 'F': asm volatile("wrgsbase %0" ::"r"(0x800000000000ul)); break;
    case 'G': asm volatile("monitor"); break;
    case 'H': asm volatile("rsm"); break;
    }
}

// Calls rt_sigreturn on a frame of our own.
static void bad_return(unsigned long rip, unsigned long rsp) {
    static unsigned long frame[64] __attribute__((aligned(64)));
    frame[6 + 15] = rsp;
    frame[6 + 16] = rip;
    frame[6 + 17] = ~0ul;
    asm volatile("mov %0, %%rsp\n mov $15, %%eax\n syscall" ::"r"(frame + 1));
}

static unsigned long area;

static void other_area(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    ((ucontext_t *)context)->uc_mcontext.fpregs = (void *)area;
}

// Returns from a handler with another address for the vector registers.
static void bad_area(unsigned long at) {
    area = at;
    handle(other_area, 0);
    run(place(COMPILED), blob_undefined, 0, 0);
}

// ---- messages to the secure processor

#define REPORT 0x454e0004
#define DERIVED_KEY 0x454e0005
#define LAST_REPORT 0x454e0007

static long report(const unsigned char *nonce, unsigned char *to) {
    return call(REPORT, (long)nonce, (long)to, 0, 0);
}

static int evidence(void) {
    static unsigned char nonce[64], first[1184], key[32], same[32], other[32];
    static struct {
        uint32_t root, reserved;
        uint64_t fields;
        uint32_t vmpl, svn;
        uint64_t tcb;
    } request = {.fields = 8};
    for (int i = 0; i < 64; i++)
        nonce[i] = i * 3 + 1;
    CHECK(report(nonce, first) == 1184);
    CHECK(memcmp(first + 0x50, nonce, 64) == 0);
    CHECK(first[0] >= 2);
    CHECK(call(DERIVED_KEY, (long)&request, (long)key, 0, 0) == 32);
    CHECK(call(DERIVED_KEY, (long)&request, (long)same, 0, 0) == 32);
    CHECK(memcmp(key, same, 32) == 0);
    request.fields = 9;
    CHECK(call(DERIVED_KEY, (long)&request, (long)other, 0, 0) == 32);
    CHECK(memcmp(key, other, 32) != 0);
    // Refused by the secure processor: messages go on.
    request.svn = 1000;
    request.fields = 16;
    CHECK(call(DERIVED_KEY, (long)&request, (long)other, 0, 0) == -EINVAL);
    CHECK(report(nonce, first) == 1184);
    // Addresses that are none of ours.
    CHECK(report(nonce, (void *)KERNEL) == -EFAULT);
    CHECK(report((void *)KERNEL, first) == -EFAULT);
    CHECK(report(nonce, (void *)SALLYPORT) == -EFAULT);
    // Once it is said that there are no more, there are none.
    for (int i = 0; i < 2; i++) {
        CHECK(call(LAST_REPORT, 0, 0, 0, 0) == 0);
        CHECK(report(nonce, first) == -EIO);
        CHECK(call(DERIVED_KEY, (long)&request, (long)key, 0, 0) == -EIO);
    }
    return 0;
}

// So many messages are answered; then one is not, and none ever again.
static int broken_evidence(unsigned long good) {
    static unsigned char nonce[64], to[1184];
    for (unsigned long i = 0; i < good; i++)
        CHECK(report(nonce, to) == 1184);
    for (int i = 0; i < 3; i++)
        CHECK(report(nonce, to) == -EIO);
    return 0;
}

// The first message is not let through for half a minute; that is no loss but of time.
static int busy_evidence(void) {
    static unsigned char nonce[64], other[64] = {1}, to[1184];
    double start = now();
    CHECK(report(nonce, to) == -EBUSY);
    CHECK(now() - start >= 29);
    CHECK(report(other, to) == 1184 && memcmp(to + 0x50, other, 64) == 0);
    CHECK(report(nonce, to) == 1184 && memcmp(to + 0x50, nonce, 64) == 0);
    return 0;
}

static volatile unsigned long beats;

static void *spinner(void *argument) {
    for (;;)
        beats++;
    return argument;
}

static void *reporter(void *argument) {
    static unsigned char nonce[64], to[1184];
    for (;;) {
        long got = report(nonce, to);
        if (got != 1184) {
            say("no report: %ld\n", got);
            _exit(1);
        }
        // Others want the microkernel, too.
        usleep(10000);
    }
    return argument;
}

// A vCPU that asks for reports all the time, and one that never enters the microkernel by itself.
static int report_and_spin(int spinner_first) {
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, spinner_first ? reporter : spinner, 0) == 0);
    (spinner_first ? spinner : reporter)(0);
    return 0;
}

// CPUID comes from the checked page, with this vCPU's own number.
static int cpuid(void) {
    unsigned a, b, c, d;
    asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0), "c"(0));
    CHECK(a >= 7);
    asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(1), "c"(0));
    CHECK(c >> 27 & 1);
    CHECK(b >> 24 == 0);
    asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0xd), "c"(0));
    CHECK(b >= 832);
    asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0x8000001f), "c"(0));
    CHECK((a & 0x1a) == 0x1a && (b & 63) == 47);
    asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0x4fffffff), "c"(7));
    CHECK(a == 0 && b == 0 && c == 0 && d == 0);
    return 0;
}

// glibc's own: from so many bytes on it copies past the caches.
extern long __x86_shared_non_temporal_threshold;

// A copy that is no large one ends where it is to end, whatever CPUID says of the caches.
static int copies(void) {
    static char from[6000], to[64 << 10];
    say("large copies have %ld bytes\n", __x86_shared_non_temporal_threshold);
    memset(from, 1, sizeof from);
    void *(*volatile copy)(void *, const void *, size_t) = memcpy;
    copy(to, from, sizeof from);
    for (size_t i = 0; i < sizeof to; i++)
        CHECK(to[i] == (i < sizeof from));
    return 0;
}

// Two pages of nothing but CPUID, entered for a while.
static int cpuids(void) {
    unsigned char *code = mmap((void *)0x20000000, 8192, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(code != MAP_FAILED);
    for (int i = 0; i < 8190; i += 2) {
        code[i] = 0x0f;
        code[i + 1] = 0xa2;
    }
    code[8190] = 0xc3;
    CHECK(mprotect(code, 8192, PROT_READ | PROT_EXEC) == 0);
    for (double start = now(); now() < start + 2;)
        asm volatile("call *%0" ::"r"(code) : "rax", "rbx", "rcx", "rdx", "memory");
    return 0;
}

// ---- against the host

static void hostile_ring(void) { call(RING, 0, 0, 0, 0); }
static void hostile_wait(uint32_t seen) { call(WAIT, seen, -1, 0, 0); }
#include "../../../../testing/keeps/hostile.h"

int main(void) {
    const char *what = (const char *)mode;
    unsigned long argument = what[1] ? strtoul(what + 2, 0, 16) : 0;
    switch (what[0]) {
    case 'h': say("hello from CPL3\n", 0); return 7;
    case 'T': return threads();
    case 'S': return shootdown();
    case 'P': return traps();
    case 'M': return memory();
    case 'K': return clocks();
    case 'J': return clock_never_back();
    case 'R': return randomness();
    case 'U': return bad_calls();
    case 'N': return pinned();
    case 'V': return many_threads();
    case 'F': return flags();
    case 'E': return evidence();
    case 'e': return broken_evidence(argument);
    case 'B': return busy_evidence();
    case 'o': return report_and_spin(argument);
    case 'C': return cpuid();
    case 'I': return cpuids();
    case 'W': return copies();
    case 'H': hostile(what[2]); return 0;

    case 'r': return *(volatile char *)argument;
    case 'w': *(volatile char *)argument = 1; return 0;
    case 'j': ((void (*)(void))argument)(); return 0;
    case 'x': ((void (*)(void))data)(); return 0;
    case 'c': *(volatile char *)main = 1; return 0;
    case 'i': ((void (*)(void))(interrupts + 4 * argument))(); return 0;
    case 'p': privileged(what[2]); return 0;
    case 'm': exhaust(); return 0;
    case 's': return overflow(0);
    case 'l': for (;;) ;
    case 'L': sleeper(0); return 0;
    case 'a': abort();
    case 'q': bad_return(argument, (unsigned long)data + 64); return 0;
    case 'Q': bad_area(argument); return 0;
    case 't': return no_traps(argument);
    case 'z': return wait_for_injection(argument);
    case 'd':
        asm volatile("mov %0, %%rcx\n mov $-1, %%r11\n mov $186, %%eax\n jmp *%1" ::"r"(argument),
                     "r"(VDSO + 0xff0)
                     : "rax", "rcx", "r11");
        return 0;
    case 'k':
        clone_to(0xd0f00, 0x800000000000, 0);
        for (;;)
            ;
    case 'O': /* what a Keep does not have */
        CHECK(call(SYS_openat, -100, (long)"/dev/urandom", 0, 0) == -ENOENT);
        return 0;
    case 'y': call(SYS_munmap, 0x10000, SALLYPORT - 0x10000, 0, 0); return 0;
    case 'g':
        for (unsigned long at = SALLYPORT; at < SALLYPORT + SALLYPORT_SIZE; at += 8)
            *(volatile unsigned long *)at = at * 0x9e3779b97f4a7c15 + argument;
        for (int i = 0; i < 100; i++)
            call(RING, 0, 0, 0, 0);
        return 0;
    case 'f':
        for (unsigned long at = VDSO + 4096; at < VDSO + 8192; at += 8)
            *(volatile unsigned long *)at = argument;
        for (int i = 0; i < 10; i++)
            now();
        return 0;
    }
    return 99;
}
