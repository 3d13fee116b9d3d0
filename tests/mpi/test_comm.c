// comm: collectives, the gradient all-reduce and agreement, at the rank count that the launcher gives.
//
//   test_mpi_comm              everything that must succeed
//   test_mpi_comm hang         the last rank never comes: the others must say so (test_comm_failures.sh)
//   test_mpi_comm late         the last rank comes late, but within the deadline
//   test_mpi_comm group        the last rank never comes to a sum over its group
//   test_mpi_comm group_late   it works for longer than the deadline, and says so
//   test_mpi_comm abort        the last rank calls lw_comm_abort
//   test_mpi_comm bench N      times the all-reduce of N floats, as JSON
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "mpi/comm.h"

typedef struct fixture {
    lw_comm *comm;
    int rank, size;
    int failures;
    lw_error err;
} fixture;

static void check(fixture *f, bool good, int line, const char *what)
{
    if (!good) {
        fprintf(stderr, "rank %d: line %d: %s (%s)\n", f->rank, line, what, f->err.text);
        f->failures++;
    }
}

#define CHECK(f, expression) check((f), (expression), __LINE__, #expression)
#define CHECK_OK(f, expression) check((f), (expression) == LW_OK, __LINE__, #expression)

// --- two devices: one whose memory is the host's, one whose memory must not be touched by anybody else

static lw_status no_sync(lw_device *dev, lw_error *err)
{
    (void)dev;
    (void)err;
    return LW_OK;
}

static lw_status failing_sync(lw_device *dev, lw_error *err)
{
    (void)dev;
    return lw_fail(err, LW_ERR_DEVICE, "device lost");
}

static void move(lw_device *dev, const void *from, size_t bytes, void *to)
{
    (void)dev;
    memcpy(to, from, bytes);
}

static const lw_device_ops host_ops = {.name = "cpu", .sync = no_sync};
static const lw_device_ops staged_ops = {.name = "other", .sync = no_sync, .upload = move, .download = move};
static const lw_device_ops broken_ops = {.name = "cpu", .sync = failing_sync};

// --- cases

static void test_topology(fixture *f)
{
    CHECK(f, lw_comm_rank(f->comm) >= 0 && lw_comm_rank(f->comm) < f->size);
    CHECK(f, lw_comm_local_rank(f->comm) < lw_comm_local_size(f->comm));
    CHECK(f, lw_comm_local_size(f->comm) <= f->size);
    CHECK(f, strlen(lw_comm_host(f->comm)) > 0);
    char version[64];
    lw_comm_version(version, sizeof version);
    CHECK(f, strlen(version) > 4 && strpbrk(version, "0123456789") != NULL);
    char little[5];
    lw_comm_version(little, sizeof little);
    CHECK(f, strlen(little) == 4);
}

static void test_values(fixture *f)
{
    CHECK_OK(f, lw_comm_barrier(f->comm, &f->err));
    for (int root = 0; root < f->size; root++) {
        int64_t value = f->rank == root ? 4242 + root : -1;
        CHECK_OK(f, lw_comm_broadcast(f->comm, root, &value, sizeof value, &f->err));
        CHECK(f, value == 4242 + root);
    }
    CHECK_OK(f, lw_comm_broadcast(f->comm, 0, NULL, 0, &f->err));
    double sums[3] = {1.5, f->rank, -f->rank};
    CHECK_OK(f, lw_comm_sum_f64(f->comm, sums, 3, &f->err));
    double triangle = 0.5 * f->size * (f->size - 1);
    CHECK(f, sums[0] == 1.5 * f->size && sums[1] == triangle && sums[2] == -triangle);
    int64_t counts[2] = {(int64_t)1 << 40, f->rank};
    CHECK_OK(f, lw_comm_sum_i64(f->comm, counts, 2, &f->err));
    CHECK(f, counts[0] == ((int64_t)1 << 40) * f->size && counts[1] == (int64_t)triangle);
    double most[2] = {f->rank, -f->rank};
    CHECK_OK(f, lw_comm_max_f64(f->comm, most, 2, &f->err));
    CHECK(f, most[0] == f->size - 1 && most[1] == 0.0);
    CHECK_OK(f, lw_comm_max_f64(f->comm, NULL, 0, &f->err));
}

static void test_gather(fixture *f)
{
    int32_t own[2] = {f->rank, -f->rank};
    int32_t everybody[2 * 64];
    CHECK_OK(f, lw_comm_all_gather(f->comm, own, sizeof own, &f->err, everybody));
    for (int r = 0; r < f->size; r++) {
        CHECK(f, everybody[2 * r] == r && everybody[2 * r + 1] == -r);
    }
    for (int root = 0; root<f->size; root += f->size> 1 ? f->size - 1 : 1) {
        int64_t pair[2] = {f->rank, 100 + f->rank};
        int64_t all[2 * 64] = {0};
        CHECK_OK(f, lw_comm_gather(f->comm, root, pair, sizeof pair, &f->err, f->rank == root ? all : NULL));
        for (int r = 0; f->rank == root && r < f->size; r++) {
            CHECK(f, all[2 * r] == r && all[2 * r + 1] == 100 + r);
        }
        // Rank r brings 1000 * r bytes of the value r: rank 0 none, so also empty parts.
        char mine[64000];
        memset(mine, f->rank, sizeof mine);
        void *joined = NULL;
        int64_t counts[64];
        int64_t bytes = 1000 * (int64_t)f->rank;
        CHECK_OK(f, lw_comm_gather_v(f->comm, root, mine, bytes, &f->err, &joined, counts));
        CHECK(f, (joined != NULL) == (f->rank == root));
        const char *at = joined;
        for (int r = 0; f->rank == root && r < f->size; r++) {
            CHECK(f, counts[r] == 1000 * r);
            for (int64_t i = 0; i < counts[r]; i++) {
                CHECK(f, at[i] == r);
            }
            at += counts[r];
        }
        free(joined);
    }
}

// A value that rounds differently in a different order of summation.
static float awkward(int rank, int64_t i)
{
    return (float)((double)((i * 2654435761u + (unsigned)rank * 40503u) % 1000003u) * 1e-3 + 1e-4 / (rank + 1));
}

static void test_all_reduce(fixture *f, const lw_device_ops *ops, int64_t n)
{
    lw_device device = {.ops = ops};
    size_t bytes = (size_t)n * sizeof(float);
    float *values = malloc(bytes + 2 * sizeof(float));
    float *again = malloc(bytes + 1);
    float *first = malloc(bytes + 1);
    CHECK_OK(f, lw_comm_attach_device(f->comm, &device, LW_COMM_AUTO, n, &f->err));
    for (int pass = 0; pass < 2; pass++) {
        values[0] = values[n + 1] = -77.0f; // guards
        for (int64_t i = 0; i < n; i++) {
            values[i + 1] = awkward(f->rank, i);
        }
        CHECK_OK(f, lw_comm_all_reduce(f->comm, values + 1, n, &f->err));
        memcpy(pass == 0 ? again : first, values + 1, bytes);
    }
    CHECK(f, values[0] == -77.0f && values[n + 1] == -77.0f);
    CHECK(f, memcmp(again, first, bytes) == 0); // the same bits a second time
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int r = 0; r < f->size; r++) {
            sum += awkward(r, i);
        }
        if (fabs(sum - first[i]) > 1e-5 * fabs(sum)) {
            CHECK(f, fabs(sum - first[i]) <= 1e-5 * fabs(sum));
            break;
        }
    }
    memcpy(again, first, bytes);
    CHECK_OK(f, lw_comm_broadcast(f->comm, 0, again, (int64_t)bytes, &f->err));
    CHECK(f, memcmp(again, first, bytes) == 0); // the same bits on every rank
    lw_comm_detach_device(f->comm);
    free(values);
    free(again);
    free(first);
}

static void test_reductions(fixture *f)
{
    static const int64_t sizes[] = {0, 1, 2, 3, 5, 1000, 262143, 1100003};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        test_all_reduce(f, &host_ops, sizes[i]);
    }
    test_all_reduce(f, &staged_ops, 4097);
}

static bool plane_is(fixture *f, const char *text)
{
    char plane[128];
    lw_comm_data_plane(f->comm, plane, sizeof plane);
    return strstr(plane, f->size == 1 ? "none (one rank)" : text) != NULL;
}

static void test_data_plane(fixture *f)
{
    lw_device host = {.ops = &host_ops};
    lw_device staged = {.ops = &staged_ops};
    lw_device broken = {.ops = &broken_ops};
    float values[2] = {1.0f, 2.0f};
    bool alone = f->size == 1;
    CHECK(f, plane_is(f, "no device"));
    CHECK(f, lw_comm_all_reduce(f->comm, values, 1, &f->err) == LW_ERR_INTERNAL);
    CHECK(f, lw_comm_attach_device(f->comm, &host, LW_COMM_NCCL, 1, &f->err) == LW_ERR_CONFIG);
    CHECK(f, plane_is(f, "no device"));
    CHECK_OK(f, lw_comm_attach_device(f->comm, &host, LW_COMM_MPI, 1, &f->err));
    CHECK(f, plane_is(f, "MPI (ring in host memory)"));
    lw_comm_detach_device(f->comm);
    lw_comm_detach_device(f->comm); // once more changes nothing
    CHECK_OK(f, lw_comm_attach_device(f->comm, &staged, LW_COMM_MPI, 1, &f->err));
    CHECK(f, plane_is(f, "copied from the device and back"));
    CHECK(f, lw_comm_all_reduce(f->comm, values, 2, &f->err) == (alone ? LW_OK : LW_ERR_INTERNAL));
    lw_comm_detach_device(f->comm);
    CHECK_OK(f, lw_comm_attach_device(f->comm, &broken, LW_COMM_AUTO, 1, &f->err));
    CHECK(f, lw_comm_all_reduce(f->comm, values, 1, &f->err) == (alone ? LW_OK : LW_ERR_DEVICE));
    lw_comm_detach_device(f->comm);
}

// --- agreement: what is said is caught by putting a file in the place of stderr

typedef struct agreement {
    lw_status result;
    char text[4096];    // err on this rank
    char said[4][4096]; // by each rank; valid on all
} agreement;

static agreement agree(fixture *f, lw_status mine, const char *text)
{
    agreement a = {0};
    lw_error err = {{0}};
    snprintf(err.text, sizeof err.text, "%s", text);
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    a.result = lw_comm_agree(f->comm, mine, &err);
    dup2(saved, STDERR_FILENO);
    close(saved);
    snprintf(a.text, sizeof a.text, "%s", err.text);
    char said[4096] = {0};
    rewind(file);
    size_t n = fread(said, 1, sizeof said - 1, file);
    said[n] = '\0';
    fclose(file);
    CHECK_OK(f, lw_comm_gather(f->comm, 0, said, sizeof said, &f->err, f->rank == 0 ? a.said : NULL));
    CHECK_OK(f, lw_comm_broadcast(f->comm, 0, a.said, sizeof a.said, &f->err));
    return a;
}

static void test_agree(fixture *f)
{
    int last = f->size - 1;
    agreement a = agree(f, LW_OK, "stays");
    CHECK(f, a.result == LW_OK && strcmp(a.text, "stays") == 0 && a.said[0][0] == '\0');

    // One cause everywhere: said once, and not as that of a rank.
    a = agree(f, LW_ERR_CONFIG, "x.cfg:3: unknown key");
    CHECK(f, a.result == LW_ERR_CONFIG && strcmp(a.said[0], "lwmpi: x.cfg:3: unknown key\n") == 0);
    for (int r = 1; r < f->size; r++) {
        CHECK(f, a.said[r][0] == '\0');
    }

    // A stop on request is not a failure.
    a = agree(f, f->rank == last ? LW_INTERRUPTED : LW_REQUEUE, "");
    CHECK(f, a.result == LW_INTERRUPTED);
    for (int r = 0; r < f->size; r++) {
        CHECK(f, a.said[r][0] == '\0');
    }
    if (f->size == 1) {
        return;
    }

    // One rank: it says so itself, and nobody has anything to add.
    char tag[256];
    a = agree(f, f->rank == last ? LW_ERR_IO : LW_OK, "weights: gone");
    snprintf(tag, sizeof tag, "lwmpi: rank %d on %s: weights: gone\n", last, lw_comm_host(f->comm));
    CHECK(f, a.result == LW_ERR_IO && strcmp(a.said[last], tag) == 0 && a.said[0][0] == '\0');
    CHECK(f, a.text[0] == '\0');

    // Two causes: two voices, the worse status wins.
    a = agree(f, f->rank == 0 ? LW_ERR_IO : LW_ERR_MEMORY, f->rank == 0 ? "disk" : "memory");
    CHECK(f, a.result == LW_ERR_MEMORY && strstr(a.said[0], "disk") != NULL && strstr(a.said[1], "memory") != NULL);
    for (int r = 2; r < f->size; r++) {
        CHECK(f, a.said[r][0] == '\0' && strstr(a.said[1], "more: memory") != NULL);
    }
}

// --- modes

// Two kinds of groups at once, as a grid has them: neighbours in pairs, and every other rank.
static void test_groups(fixture *f)
{
    lw_device device = {.ops = &host_ops};
    lw_comm *pair = NULL;
    lw_comm *others = NULL;
    CHECK_OK(f, lw_comm_group(f->comm, f->rank / 2, &f->err, &pair));
    CHECK_OK(f, lw_comm_group(f->comm, f->rank % 2, &f->err, &others));
    int mates = f->rank / 2 * 2 + 1 < f->size ? 2 : 1;
    CHECK(f, lw_comm_size(pair) == mates && lw_comm_rank(pair) == f->rank % 2);
    CHECK(f, lw_comm_size(others) == (f->size + 1 - f->rank % 2) / 2 && lw_comm_rank(others) == f->rank / 2);
    float values[3] = {1.0F, (float)f->rank, -2.0F};
    CHECK_OK(f, lw_comm_attach_device(pair, &device, LW_COMM_AUTO, 3, &f->err));
    CHECK_OK(f, lw_comm_all_reduce(pair, values, 3, &f->err));
    float ranks = (float)(mates == 2 ? f->rank / 2 * 4 + 1 : f->rank);
    CHECK(f, values[0] == (float)mates && values[1] == ranks && values[2] == -2.0F * (float)mates);
    int64_t sum = f->rank;
    int64_t expected = 0;
    for (int r = f->rank % 2; r < f->size; r += 2) {
        expected += r;
    }
    CHECK_OK(f, lw_comm_sum_i64(others, &sum, 1, &f->err));
    CHECK(f, sum == expected);
    lw_comm_detach_device(pair);
    lw_comm *group = NULL;
    CHECK(f, lw_comm_group(pair, 0, &f->err, &group) == LW_ERR_INTERNAL && group == NULL);
    lw_comm_destroy(&pair);
    lw_comm_destroy(&others);
    CHECK_OK(f, lw_comm_barrier(f->comm, &f->err));
}

static int run_tests(fixture *f)
{
    test_topology(f);
    test_values(f);
    test_gather(f);
    test_reductions(f);
    test_data_plane(f);
    test_agree(f);
    test_groups(f);
    double failures = f->failures;
    CHECK_OK(f, lw_comm_max_f64(f->comm, &failures, 1, &f->err));
    if (f->rank == 0 && failures == 0) {
        printf("comm: all passed at %d ranks\n", f->size);
    }
    return failures == 0 ? 0 : 1;
}

// The last rank hangs in front of a sum over its group, or works there for longer than the deadline, while ranks of
// another group already wait for all.
static int run_group(fixture *f, bool hangs)
{
    lw_comm *group = NULL;
    int64_t value = 1;
    CHECK_OK(f, lw_comm_group(f->comm, f->rank / 2, &f->err, &group));
    lw_comm_doing(f->comm, "step %d", 7);
    if (f->rank == f->size - 1 && hangs) {
        sleep(60);
    }
    for (double start_s = lw_now_s(); f->rank == f->size - 1 && lw_now_s() - start_s < 5.0;) {
        usleep(1000);
        lw_comm_send_heartbeat(f->comm);
    }
    CHECK_OK(f, lw_comm_sum_i64(group, &value, 1, &f->err));
    CHECK_OK(f, lw_comm_barrier(f->comm, &f->err));
    printf("rank %d went on\n", f->rank);
    lw_comm_destroy(&group);
    return f->failures;
}

static int run_bench(fixture *f, int64_t n)
{
    enum { PASSES = 60 };
    lw_device device = {.ops = &host_ops};
    float *values = calloc((size_t)n, sizeof *values);
    CHECK_OK(f, lw_comm_attach_device(f->comm, &device, LW_COMM_AUTO, n, &f->err));
    double best_s = 1e9;
    double sum_s = 0;
    for (int i = 0; i < PASSES; i++) {
        CHECK_OK(f, lw_comm_barrier(f->comm, &f->err));
        double start_s = lw_now_s();
        CHECK_OK(f, lw_comm_all_reduce(f->comm, values, n, &f->err));
        double took_s = lw_now_s() - start_s;
        best_s = fmin(best_s, took_s);
        sum_s += took_s;
    }
    if (f->rank == 0) {
        printf("{\"ranks\": %d, \"bytes\": %lld, \"all_reduce_best_s\": %.3e, \"all_reduce_mean_s\": %.3e}\n", f->size,
               (long long)n * 4, best_s, sum_s / PASSES);
    }
    free(values);
    return f->failures;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    bool in_group = strcmp(mode, "group") == 0 || strcmp(mode, "group_late") == 0;
    bool impatient = strcmp(mode, "hang") == 0 || strcmp(mode, "late") == 0;
    fixture f = {0};
    if (lw_comm_create(&(lw_comm_options){.timeout_s = impatient || in_group ? 2.0 : 100.0}, &f.err, &f.comm) !=
        LW_OK) {
        fprintf(stderr, "lwmpi: %s\n", f.err.text);
        return 1;
    }
    f.rank = lw_comm_rank(f.comm);
    f.size = lw_comm_size(f.comm);
    bool last = f.rank == f.size - 1;
    int result = 0;
    if (impatient) {
        lw_comm_doing(f.comm, "step %d", 7);
        if (last) {
            sleep(strcmp(mode, "hang") == 0 ? 60 : 1);
        }
        result = lw_comm_barrier(f.comm, &f.err) == LW_OK ? 0 : 1;
        printf("rank %d went on\n", f.rank);
    } else if (in_group) {
        result = run_group(&f, strcmp(mode, "group") == 0);
    } else if (strcmp(mode, "abort") == 0) {
        if (last) {
            lw_fail(&f.err, LW_ERR_CONFIG, "no such key");
            lw_comm_abort(f.comm, LW_ERR_CONFIG, &f.err);
        }
        lw_comm_barrier(f.comm, &f.err);
    } else if (strcmp(mode, "bench") == 0) {
        result = run_bench(&f, argc > 2 ? strtoll(argv[2], NULL, 10) : 500000);
    } else {
        result = run_tests(&f);
    }
    lw_comm_destroy(&f.comm);
    return result;
}
