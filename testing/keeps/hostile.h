// SPDX-License-Identifier: Apache-2.0

/* A Keep that was taken over, against its host: what the test programs of both kinds of Keep do, by the
 * numbers of the sallyport's SPEC.md. The program that includes this defines SALLYPORT, the address of the
 * region; hostile_ring(), the doorbell; and hostile_wait(seen), which sleeps until a completion past `seen`. */

#define HOSTILE_WORD(offset) ((volatile uint32_t *)((char *)SALLYPORT + (offset)))
#define SQ_TAIL HOSTILE_WORD(0x040)
#define SQ_HEAD HOSTILE_WORD(0x080)
#define CQ_TAIL HOSTILE_WORD(0x0c0)
#define CQ_HEAD HOSTILE_WORD(0x100)
#define HOSTILE_BUFFER(slot) ((char *)SALLYPORT + 0x200000 + (slot) * 0x20000)

static void hostile_record(uint32_t slot, uint64_t op, uint64_t flags, uint64_t handle, uint64_t length, uint64_t argument) {
    uint64_t record[8] = {op | flags << 16 | (uint64_t)slot << 32, handle | length << 32, 0, argument};
    memcpy((char *)SALLYPORT + 0x1000 + 64 * slot, record, sizeof record);
}

/* Every entry of the ring names slots from `first` on, `count` of them in turns, of which the next to be
 * taken is the first. */
static void hostile_entries(uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < 64; i++)
        *HOSTILE_WORD(0x200 + (*SQ_TAIL + i) % 64 * 4) = first + i % count;
}

/* Posts requests that are prepared, and waits until as many are completed. */
static void hostile_perform(uint32_t count) {
    uint32_t done = *CQ_TAIL + count;
    __atomic_store_n(SQ_TAIL, *SQ_TAIL + count, __ATOMIC_SEQ_CST);
    hostile_ring();
    while ((int32_t)(*CQ_TAIL - done) < 0)
        hostile_wait(*CQ_TAIL);
    *CQ_HEAD = *CQ_TAIL;
}

/* Prints the statuses of the last two completions. */
static void hostile_print_statuses(void) {
    unsigned status[2];
    for (uint32_t i = 0; i < 2; i++)
        status[i] = *(volatile uint16_t *)HOSTILE_WORD(0x404 + (*CQ_TAIL - 2 + i) % 64 * 32);
    int length = snprintf(HOSTILE_BUFFER(0), 64, "status %u\nstatus %u\n", status[0], status[1]);
    hostile_record(0, 3, 0, 1, length, 0);
    hostile_entries(0, 1);
    hostile_perform(1);
}

static void *hostile_feed(void *argument) {
    for (;;) {
        uint32_t done = __atomic_load_n(CQ_TAIL, __ATOMIC_SEQ_CST);
        __atomic_store_n(CQ_HEAD, done, __ATOMIC_SEQ_CST);
        __atomic_store_n(SQ_TAIL, done + 50, __ATOMIC_SEQ_CST);
    }
    return argument;
}

/* Keeps the submission ring full while the host empties it. */
static void hostile_endless(void) {
    pthread_t thread;
    if (pthread_create(&thread, 0, hostile_feed, 0))
        return;
    for (;;)
        hostile_ring();
}

static void hostile(char mode) {
    const uint32_t slot = 40, all = 0x20000;
    /* The test learns that the attack begins. */
    memcpy(HOSTILE_BUFFER(0), "go\n", 3);
    hostile_record(0, 3, 0, 1, 3, 0);
    hostile_entries(0, 1);
    hostile_perform(1);
    switch (mode) {
    case 'c': /* lists the first directory without end */
        hostile_record(slot, 0x1b, 0, 16, all, 0);
        hostile_entries(slot, 1);
        hostile_endless();
    case 'l': /* lines of the log without end */
        memset(HOSTILE_BUFFER(slot), 'x', 4096);
        hostile_record(slot, 4, 1, 0, 4096, 0);
        hostile_entries(slot, 1);
        hostile_endless();
    case 'o': /* standard output, more than a pipe holds, from all slots */
    case 'e': /* standard error, the same */
        for (uint32_t i = 0; i < 64; i++)
            hostile_record(i, 3, 0, mode == 'o' ? 1 : 2, all, 0);
        hostile_entries(0, 64);
        hostile_perform(64);
        break;
    case 'i': /* standard input, a byte at a time */
        hostile_record(slot, 2, 0, 0, 1, 0);
        hostile_entries(slot, 1);
        for (;;)
            hostile_perform(1);
    case 'n': /* looks up a name and cancels that, without end */
        strcpy(HOSTILE_BUFFER(slot), "a-name-that-nobody-answers.example.org");
        hostile_record(slot, 0x40, 0, 0, strlen(HOSTILE_BUFFER(slot)), 0);
        hostile_record(slot + 1, 7, 0, 0, 0, slot);
        hostile_entries(slot, 2);
        hostile_endless();
    case 'd': /* writes to standard input, reads from standard output */
        memcpy(HOSTILE_BUFFER(slot), "owned", 5);
        hostile_record(slot, 3, 0, 0, 5, 0);
        hostile_record(slot + 1, 2, 0, 1, 5, 0);
        hostile_entries(slot, 2);
        hostile_perform(2);
        hostile_print_statuses();
        break;
    case 'f': /* a file of the first directory */
        HOSTILE_BUFFER(slot)[0] = 'x';
        hostile_record(slot, 0x10, 1, 16, 1, 0);
        hostile_entries(slot, 1);
        hostile_perform(1);
        break;
    }
}
