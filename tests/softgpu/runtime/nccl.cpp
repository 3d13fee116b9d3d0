// NCCL over MPI.
//
// Point-to-point messages of MPI_COMM_WORLD, which lwmpi itself does not use (it talks over duplicates): no call here
// is collective among ranks that do not share the communicator. The rank that made the unique id collects who and where
// the others are and sends all of them the table. A non-blocking communicator does its work when it is asked how it
// fares; an all-reduce is in its stream only then.
#define OMPI_SKIP_MPICXX 1 // its C++ interface is a library that need not be there
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "nccl.h"
#include "softgpu.h"

using namespace softgpu;

namespace
{

enum { TAG_HELLO = 12000, TAG_TABLE = 14000, TAG_SUM = 16000, TAG_END = 18000, TAGS = 1000 };

struct Id {
    char magic[8];
    int root, number; // rank in MPI_COMM_WORLD that made it; its count of ids
};

struct Member {
    int rank, world_rank;
    char device[64];
};

struct State {
    ncclResult_t result = ncclInProgress;
    std::string error;
    bool blocking = true, ending = false;
    std::atomic<bool> aborted{false}; // set without the lock, which a thread that waits for the sum may hold
    int ranks = 0, rank = 0, calls = 0;
    Id id = {};
    Member self = {};
    std::vector<Member> table, collected;
    std::vector<MPI_Request> requests;
    int stage = 0; // -1: hangs; 1: collects, 2: waits for the table, 3: ready, 4: ends, 5: ended
    std::deque<std::function<cudaError_t()>> waiting; // all-reduces that are not in their stream yet
    int device = 0;
};
typedef std::shared_ptr<State> StateRef;

} // namespace

struct ncclComm {
    StateRef state;
};

static std::string &last_error()
{
    static std::string *text = new std::string;
    return *text;
}

static ncclResult_t fail(State &s, ncclResult_t result, const std::string &text)
{
    s.result = result;
    s.error = last_error() = text;
    return result;
}

// SOFTGPU_NCCL_FAULT=RANK:CALL:KIND,...: what shall happen to this rank at its call-th all-reduce (0: at the start).
static std::string fault(const State &s, int call)
{
    const char *text = getenv("SOFTGPU_NCCL_FAULT");
    for (std::string rest = text != nullptr ? text : ""; !rest.empty();) {
        std::string one = rest.substr(0, rest.find(','));
        rest.erase(0, one.size() + 1);
        int rank = 0, at = 0, used = 0;
        if (sscanf(one.c_str(), "%d:%d:%n", &rank, &at, &used) != 2 || used == 0) {
            die("SOFTGPU_NCCL_FAULT=%s: must be RANK:CALL:KIND,...", text);
        }
        if (rank == s.rank && at == call) {
            return one.substr((size_t)used);
        }
    }
    return "";
}

// Whether all requests are through.
static bool all_done(std::vector<MPI_Request> &requests)
{
    int flag = 1;
    if (!requests.empty() &&
        MPI_Testall((int)requests.size(), requests.data(), &flag, MPI_STATUSES_IGNORE) != MPI_SUCCESS) {
        die("NCCL: MPI_Testall failed");
    }
    if (flag != 0) {
        requests.clear();
    }
    return flag != 0;
}

static void send(State &s, const void *data, size_t bytes, int world_rank, int tag)
{
    s.requests.emplace_back();
    (void)MPI_Isend(data, (int)bytes, MPI_BYTE, world_rank, tag + s.id.number % TAGS, MPI_COMM_WORLD,
                    &s.requests.back());
}

static void receive(State &s, void *data, size_t bytes, int world_rank, int tag)
{
    s.requests.emplace_back();
    (void)MPI_Irecv(data, (int)bytes, MPI_BYTE, world_rank, tag + s.id.number % TAGS, MPI_COMM_WORLD,
                    &s.requests.back());
}

// --- bring-up

static void begin(State &s)
{
    s.table.resize((size_t)s.ranks);
    if (s.self.world_rank == s.id.root) {
        s.collected.resize((size_t)s.ranks);
        for (Member &member : s.collected) {
            receive(s, &member, sizeof member, MPI_ANY_SOURCE, TAG_HELLO);
        }
    }
    send(s, &s.self, sizeof s.self, s.id.root, TAG_HELLO);
    receive(s, s.table.data(), s.table.size() * sizeof(Member), s.id.root, TAG_TABLE);
}

static void check_table(State &s)
{
    for (int i = 0; i < s.ranks; i++) {
        for (int j = 0; j < i; j++) {
            if (strcmp(s.table[(size_t)i].device, s.table[(size_t)j].device) == 0) {
                (void)fail(s, ncclInvalidUsage,
                           "Duplicate GPU detected : rank " + std::to_string(j) + " and rank " + std::to_string(i) +
                               " both on " + s.table[(size_t)i].device);
                return;
            }
        }
    }
    s.result = ncclSuccess;
}

// The first requests are those of the rank that collects.
static bool has_collected(State &s)
{
    int flag = 0;
    (void)MPI_Testall(s.ranks, s.requests.data(), &flag, MPI_STATUSES_IGNORE);
    return flag != 0;
}

static void go_on_starting(State &s)
{
    if (s.stage == 0) {
        begin(s);
        s.stage = s.self.world_rank == s.id.root ? 1 : 2;
    }
    if (s.stage == 1 && has_collected(s)) {
        std::sort(s.collected.begin(), s.collected.end(),
                  [](const Member &x, const Member &y) { return x.rank < y.rank; });
        for (const Member &member : s.collected) {
            send(s, s.collected.data(), s.collected.size() * sizeof(Member), member.world_rank, TAG_TABLE);
        }
        s.stage = 2;
    }
    if (s.stage == 2 && all_done(s.requests)) {
        s.stage = 3;
        check_table(s);
    }
}

// --- the end: every rank tells every other

static void go_on_ending(State &s)
{
    if (s.stage == 3) {
        for (const Member &member : s.table) {
            send(s, nullptr, 0, member.world_rank, TAG_END);
            receive(s, nullptr, 0, member.world_rank, TAG_END);
        }
        s.stage = 4;
    }
    if (s.stage == 4 && all_done(s.requests)) {
        s.stage = 5;
        s.result = ncclSuccess;
    }
}

static void go_on(State &s)
{
    if (s.result != ncclInProgress) {
        return;
    }
    if (s.stage < 3) {
        go_on_starting(s); // nothing at stage -1
        return;
    }
    while (!s.waiting.empty()) {
        cudaError_t error = s.waiting.front()();
        s.waiting.pop_front();
        if (error != cudaSuccess) {
            (void)fail(s, ncclUnhandledCudaError, cudaGetErrorString(error));
            return;
        }
    }
    if (s.ending) {
        go_on_ending(s);
    } else {
        s.result = ncclSuccess;
    }
}

// What a call returns that has put the communicator to work.
static ncclResult_t started(State &s)
{
    s.result = ncclInProgress;
    while (s.blocking && s.result == ncclInProgress) {
        go_on(s);
        usleep(20);
    }
    return s.result;
}

// --- the sum: everybody sends all to everybody and adds in the order of the ranks

namespace
{

struct Sum {
    StateRef state;
    const float *from;
    float *to;
    size_t count;
    int call;
    std::string fault;
    std::vector<std::vector<float>> parts;
    std::vector<MPI_Request> requests;
};

} // namespace

static void exchange(Sum &sum)
{
    State &s = *sum.state;
    open_memory();
    check_range("ncclAllReduce: send buffer", sum.from, sum.count * sizeof(float));
    check_range("ncclAllReduce: receive buffer", sum.to, sum.count * sizeof(float));
    sum.parts.assign((size_t)s.ranks, std::vector<float>(sum.count));
    sum.parts[(size_t)s.rank].assign(sum.from, sum.from + sum.count);
    int tag = TAG_SUM + s.id.number % TAGS;
    for (int r = 0; r < s.ranks; r++) {
        if (r == s.rank) {
            continue;
        }
        int peer = s.table[(size_t)r].world_rank;
        sum.requests.resize(sum.requests.size() + 2);
        MPI_Request *pair = &sum.requests[sum.requests.size() - 2];
        (void)MPI_Irecv(sum.parts[(size_t)r].data(), (int)sum.count, MPI_FLOAT, peer, tag, MPI_COMM_WORLD, pair);
        (void)MPI_Isend(sum.parts[(size_t)s.rank].data(), (int)sum.count, MPI_FLOAT, peer, tag, MPI_COMM_WORLD,
                        pair + 1);
    }
}

static bool go_on_summing(Sum &sum, bool first)
{
    State &s = *sum.state;
    if (s.aborted) {
        return true; // its kernel has been ended
    }
    if (first && sum.fault == "dead") {
        fprintf(stderr, "softgpu: rank %d ends in the middle of an all-reduce\n", s.rank);
        _exit(1);
    }
    if (first && sum.fault == "async_error") {
        (void)fail(s, ncclRemoteError, "injected: a remote process exited or there was a network error");
    }
    if (!sum.fault.empty()) {
        return false;
    }
    if (first) {
        exchange(sum);
    }
    if (!all_done(sum.requests)) {
        return false;
    }
    open_memory();
    for (size_t i = 0; i < sum.count; i++) {
        float total = sum.parts[0][i];
        for (int r = 1; r < s.ranks; r++) {
            total += sum.parts[(size_t)r][i];
        }
        sum.to[i] = total;
    }
    return true;
}

extern "C" {

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *out)
{
    static int made = 0;
    Id id = {"softgpu", 0, made++};
    if (MPI_Comm_rank(MPI_COMM_WORLD, &id.root) != MPI_SUCCESS) {
        last_error() = "MPI has not started";
        return ncclSystemError;
    }
    memset(out, 0, sizeof *out);
    memcpy(out->internal, &id, sizeof id);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    Call call("ncclCommInitRankConfig");
    *out = nullptr;
    StateRef state = std::make_shared<State>();
    State &s = *state;
    memcpy(&s.id, id.internal, sizeof s.id);
    if (call.failed()) {
        return fail(s, ncclUnhandledCudaError, cudaGetErrorString(call.error()));
    }
    if (rank < 0 || rank >= ranks || strcmp(s.id.magic, "softgpu") != 0) {
        return fail(s, ncclInvalidArgument, "no unique id, or a rank that is not below the number of ranks");
    }
    s.ranks = ranks;
    s.rank = rank;
    s.blocking = config == nullptr || config->blocking != 0;
    s.device = current_device();
    s.self.rank = rank;
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &s.self.world_rank);
    (void)snprintf(s.self.device, sizeof s.self.device, "%s", device_uuid(s.device).c_str());
    *out = new ncclComm{state};
    std::string kind = fault(s, 0);
    if (kind == "init_error") {
        (void)fail(s, ncclSystemError, "injected: no network interface found");
        return s.blocking ? s.result : ncclInProgress;
    }
    s.stage = kind == "hang" ? -1 : 0;
    return started(s);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *out)
{
    Call call("ncclCommGetAsyncError");
    if (comm == nullptr) {
        return ncclInvalidArgument;
    }
    go_on(*comm->state);
    *out = comm->state->result;
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
    Call call("ncclAllReduce");
    if (comm == nullptr) {
        return ncclInvalidArgument;
    }
    State &s = *comm->state;
    if (s.result != ncclSuccess || s.ending || s.aborted) {
        last_error() = "the communicator is not ready: ask ncclCommGetAsyncError first";
        return ncclInvalidUsage;
    }
    bool device = where_is(from).kind == Kind::device && where_is(to).kind == Kind::device;
    if (type != ncclFloat32 || op != ncclSum || !device || s.device != current_device()) {
        return fail(s, ncclInvalidArgument, "ncclAllReduce of something else than f32 of this communicator's device");
    }
    auto sum = std::make_shared<Sum>();
    sum->state = comm->state;
    sum->from = static_cast<const float *>(from);
    sum->to = static_cast<float *>(to);
    sum->count = count;
    sum->call = ++s.calls;
    sum->fault = fault(s, sum->call);
    s.waiting.push_back([sum, stream] {
        return enqueue(stream, std::make_shared<Op>(
                                   Op{"ncclAllReduce", [sum](bool first) { return go_on_summing(*sum, first); }}));
    });
    return started(s);
}

// Without an effect here: each all-reduce of a group is worked off as it comes.
ncclResult_t ncclGroupStart(void)
{
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    Call call("ncclCommFinalize");
    if (comm == nullptr) {
        return ncclInvalidArgument;
    }
    if (comm->state->result != ncclSuccess || comm->state->ending) {
        return ncclInvalidUsage;
    }
    comm->state->ending = true;
    return started(*comm->state);
}

static void release(ncclComm_t comm)
{
    comm->state->aborted = true;
    for (MPI_Request &request : comm->state->requests) {
        if (request != MPI_REQUEST_NULL) { // in use to the end of the process, like the memory behind it
            new StateRef(comm->state);
            break;
        }
    }
    delete comm;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    Call call("ncclCommDestroy");
    if (comm == nullptr) {
        return ncclInvalidArgument;
    }
    release(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (comm == nullptr) {
        return ncclInvalidArgument;
    }
    if (fault(*comm->state, -1) == "hang") {
        for (;;) {
            pause();
        }
    }
    comm->state->aborted = true;
    Call call("ncclCommAbort");
    release(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
{
    *count = comm->state->ranks;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[] = {"no error",
                                        "unhandled cuda error",
                                        "unhandled system error",
                                        "internal error",
                                        "invalid argument",
                                        "invalid usage",
                                        "remote process exited or there was a network error",
                                        "NCCL operation in progress"};
    return (unsigned)result < sizeof texts / sizeof *texts ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    return comm != nullptr ? comm->state->error.c_str() : last_error().c_str();
}

} // extern "C"
