/*
 * libpmemobj's side of the benchmark of regions. Reads one command a line, answers each by one
 * line: a number, or "error" and why.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libpmemobj.h>

struct object {
	uint64_t words[8];
};

static PMEMobjpool *pool;
static struct object **objects;
static uint64_t object_count;
/* In the pool: references that are swung to new objects. */
static PMEMoid *slots;
static uint64_t slot_count;
static uint64_t state = 0x9E3779B97F4A7C15;

static uint64_t
random_number(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t
now(clockid_t clock)
{
	struct timespec time;
	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void
answer(double value)
{
	printf("%.3f\n", value);
	fflush(stdout);
}

static void
fail(const char *what)
{
	printf("error %s: %s\n", what, pmemobj_errormsg());
	fflush(stdout);
	exit(1);
}

static uint64_t
allocated(void)
{
	uint64_t bytes;
	if (pmemobj_ctl_get(pool, "stats.heap.curr_allocated", &bytes))
		fail("stats");
	return bytes;
}

/* Makes objects of 64 bytes; the bytes that each takes. */
static double
fill(uint64_t count)
{
	int enabled = 1;
	if (pmemobj_ctl_set(pool, "stats.enabled", &enabled))
		fail("stats");
	uint64_t before = allocated();
	objects = malloc(count * sizeof(*objects));
	for (uint64_t i = 0; i < count; i++) {
		PMEMoid oid;
		if (pmemobj_zalloc(pool, &oid, sizeof(struct object), 1))
			fail("alloc");
		objects[i] = pmemobj_direct(oid);
	}
	object_count = count;
	double each = (double)(allocated() - before) / (double)count;
	enabled = 0;
	if (pmemobj_ctl_set(pool, "stats.enabled", &enabled))
		fail("stats");
	return each;
}

static void
make_slots(uint64_t count)
{
	PMEMoid oid;
	if (pmemobj_zalloc(pool, &oid, count * sizeof(PMEMoid), 2))
		fail("alloc");
	slots = pmemobj_direct(oid);
	slot_count = count;
	for (uint64_t i = 0; i < count; i++)
		if (pmemobj_zalloc(pool, &slots[i], sizeof(struct object), 1))
			fail("alloc");
}

static void
update_once(unsigned each, uint64_t among)
{
	TX_BEGIN(pool) {
		for (unsigned i = 0; i < each; i++) {
			uint64_t *word = &objects[random_number() % among]->words[0];
			pmemobj_tx_add_range_direct(word, sizeof(*word));
			*word += 1;
		}
	} TX_ONABORT {
		fail("update");
	} TX_END
}

static void
abort_once(void)
{
	TX_BEGIN(pool) {
		uint64_t *word = &objects[random_number() % object_count]->words[0];
		pmemobj_tx_add_range_direct(word, sizeof(*word));
		*word += 1;
		pmemobj_tx_abort(0);
	} TX_END
}

static void
swing_in_transaction(void)
{
	PMEMoid *slot = &slots[random_number() % slot_count];
	TX_BEGIN(pool) {
		PMEMoid fresh = pmemobj_tx_alloc(sizeof(struct object), 1);
		struct object *object = pmemobj_direct(fresh);
		memset(object, (int)state, sizeof(*object));
		pmemobj_tx_add_range_direct(slot, sizeof(*slot));
		pmemobj_tx_free(*slot);
		*slot = fresh;
	} TX_ONABORT {
		fail("swing");
	} TX_END
}

/* The library's fastest way: volatile reservation, then one publication. */
static void
swing_by_publication(void)
{
	PMEMoid *slot = &slots[random_number() % slot_count];
	struct pobj_action actions[4];
	PMEMoid fresh = pmemobj_reserve(pool, &actions[0], sizeof(struct object), 1);
	if (OID_IS_NULL(fresh))
		fail("reserve");
	struct object *object = pmemobj_direct(fresh);
	memset(object, (int)state, sizeof(*object));
	pmemobj_flush(pool, object, sizeof(*object));
	pmemobj_defer_free(pool, *slot, &actions[1]);
	pmemobj_set_value(pool, &actions[2], &slot->pool_uuid_lo, fresh.pool_uuid_lo);
	pmemobj_set_value(pool, &actions[3], &slot->off, fresh.off);
	if (pmemobj_publish(pool, actions, 4))
		fail("publish");
}

#define PER_STEP(count, step) do { \
	uint64_t begun = now(CLOCK_THREAD_CPUTIME_ID); \
	for (uint64_t i = 0; i < (count); i++) \
		step; \
	answer((double)(now(CLOCK_THREAD_CPUTIME_ID) - begun) / (double)(count)); \
} while (0)

int
main(void)
{
	char line[4096], word[32], path[3072];
	while (fgets(line, sizeof(line), stdin)) {
		uint64_t count = 0, each = 0, among = 0;
		if (sscanf(line, "create %" SCNu64 " %3071s", &count, path) == 2) {
			pool = pmemobj_create(path, "bench", count, 0600);
			if (!pool)
				fail("create");
			answer(0);
		} else if (sscanf(line, "open %3071s", path) == 1) {
			uint64_t begun = now(CLOCK_MONOTONIC);
			pool = pmemobj_open(path, "bench");
			if (!pool)
				fail("open");
			answer((double)(now(CLOCK_MONOTONIC) - begun));
		} else if (sscanf(line, "update %" SCNu64 " %" SCNu64 " %" SCNu64,
				&each, &among, &count) == 3 && among <= object_count) {
			PER_STEP(count, update_once((unsigned)each, among));
		} else if (sscanf(line, "synced %" SCNu64 " %" SCNu64, &among, &count) == 2 &&
				among <= object_count) {
			/* A disk is waited for: the clock's time counts. */
			uint64_t begun = now(CLOCK_MONOTONIC);
			for (uint64_t i = 0; i < count; i++)
				update_once(1, among);
			answer((double)(now(CLOCK_MONOTONIC) - begun) / (double)count);
		} else if (sscanf(line, "%31s %" SCNu64, word, &count) < 1) {
			fail("command");
		} else if (!strcmp(word, "fill")) {
			answer(fill(count));
		} else if (!strcmp(word, "slots")) {
			make_slots(count);
			answer(0);
		} else if (!strcmp(word, "abort")) {
			PER_STEP(count, abort_once());
		} else if (!strcmp(word, "transaction")) {
			PER_STEP(count, swing_in_transaction());
		} else if (!strcmp(word, "publish")) {
			PER_STEP(count, swing_by_publication());
		} else if (!strcmp(word, "smallest")) {
			answer(PMEMOBJ_MIN_POOL);
		} else if (!strcmp(word, "die")) {
			/* As by a kill: nothing is closed. */
			_exit(0);
		} else {
			fail("command");
		}
	}
	return 0;
}
