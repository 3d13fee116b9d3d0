// cmd_doctor.c: `lwmpi doctor`: prints what this build and this machine can do, and what the embedded default lacks.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/options.h"
#include "config/config.h"
#include "core/child.h"
#include "core/version.h"
#include "device/device.h"
#include "io/install.h"
#include "io/safetensors.h"
#include "kernels/cuda/device_cuda.h"
#include "kernels/devices.h"
#include "mpi/comm.h"
#include "mpi/comm_nccl.h"

#define MIB (INT64_C(1) << 20)
#define LOW_MEMORY_MIB INT64_C(1024) // the embedded default takes a few hundred MiB a rank
#define LOW_SHM_MIB INT64_C(32)      // Open MPI keeps a few MiB a rank in /dev/shm
#define LOW_DISK_MIB INT64_C(256)
#define LAUNCH_TIMEOUT_S 30.0

typedef enum level { OK, WARN, MISSING } level;

typedef struct doctor {
    FILE *out;
    int missing;
} doctor;

__attribute__((format(printf, 4, 5))) static void report(doctor *d, level how, const char *what, const char *format,
                                                         ...)
{
    static const char *const words[] = {"ok", "warn", "missing"};
    va_list args;
    fprintf(d->out, "%-8s %-10s ", words[how], what);
    va_start(args, format);
    vfprintf(d->out, format, args);
    va_end(args);
    fprintf(d->out, "\n");
    fflush(d->out); // the next check may take seconds
    d->missing += how == MISSING;
}

// The first line of a small file without its newline; "" when it cannot be read.
static void first_line(const char *path, char *out, size_t size)
{
    out[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(out, (int)size, file) == NULL) {
            out[0] = '\0';
        }
        fclose(file);
    }
    out[strcspn(out, "\n")] = '\0';
}

static bool on_path(const char *program, char *out, size_t size)
{
    const char *path = getenv("PATH");
    while (path != NULL && *path != '\0') {
        size_t length = strcspn(path, ":");
        int written = snprintf(out, size, "%.*s/%s", (int)length, path, program);
        if (length > 0 && written > 0 && (size_t)written < size && access(out, X_OK) == 0) {
            return true;
        }
        path += length + (path[length] == ':');
    }
    return false;
}

// --- MPI

// What mpirun starts for check_launch: one rank that begins and ends MPI.
static lw_status be_a_rank(lw_error *err)
{
    // In a Slurm allocation of many tasks, one rank is intended here; it is not a sign of a launcher without PMI.
    unsetenv("SLURM_NTASKS");
    unsetenv("SLURM_NPROCS");
    lw_comm *comm = NULL;
    LW_TRY(lw_comm_create(&(lw_comm_options){.timeout_s = LAUNCH_TIMEOUT_S}, err, &comm));
    lw_comm_destroy(&comm);
    return LW_OK;
}

static bool under_launcher(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMI_SIZE") != NULL || getenv("PMIX_RANK") != NULL;
}

static void check_launch(doctor *d, const char *mpirun)
{
    lw_error err = {.text = ""};
    char *program = NULL;
    if (lw_path_program(&err, &program) != LW_OK) {
        report(d, WARN, "launch", "not tried: %s", err.text);
        return;
    }
    // Open MPI refuses to run as root unless these variables allow it; doctor says whether a rank would start then.
    bool refused = geteuid() == 0 && getenv("OMPI_ALLOW_RUN_AS_ROOT") == NULL;
    char *const words[] = {"env",
                           "OMPI_ALLOW_RUN_AS_ROOT=1",
                           "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                           (char *)mpirun,
                           "-np",
                           "1",
                           program,
                           "doctor",
                           "--rank",
                           NULL};
    char output[2048];
    int code = 0;
    lw_status status = lw_child_run(refused ? words : words + 3, LAUNCH_TIMEOUT_S, &err, output, sizeof output, &code);
    if (status != LW_OK) {
        report(d, MISSING, "launch", "%s", err.text);
    } else if (code != 0) {
        report(d, MISSING, "launch", "%s -np 1 ended with exit code %d, saying:\n%s", mpirun, code, output);
    } else if (refused) {
        report(d, WARN, "launch",
               "Open MPI's mpirun refuses root; in a container: "
               "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
    } else {
        report(d, OK, "launch", "%s starts a rank", mpirun);
    }
    free(program);
}

static void check_mpi(doctor *d)
{
    char text[256];
    char mpirun[PATH_MAX];
    lw_comm_version(text, sizeof text);
    report(d, OK, "MPI", "%s", text);
    if (under_launcher()) {
        report(d, OK, "launch", "started by an MPI launcher just now");
    } else if (on_path("mpirun", mpirun, sizeof mpirun)) {
        check_launch(d, mpirun);
    } else if (on_path("srun", mpirun, sizeof mpirun)) {
        report(d, WARN, "launch", "mpirun is not on PATH; srun is: srun --mpi=pmix lwmpi");
    } else {
        report(d, MISSING, "launch",
               "mpirun is not on PATH; Debian: apt install openmpi-bin; cluster: load the MPI module");
    }
}

// --- the machine

static void check_cpu(doctor *d)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    char quota[64];
    first_line("/sys/fs/cgroup/cpu.max", quota, sizeof quota);
    char *end = NULL; // "QUOTA PERIOD" in microseconds, or "max PERIOD"
    double used_us = strtod(quota, &end);
    double period_us = strtod(end, NULL);
    if (used_us > 0.0 && period_us > 0.0 && used_us / period_us < cores) {
        report(d, WARN, "CPU",
               "%d usable, but this container may use %.1f at a time: no more ranks x threads than that", cores,
               used_us / period_us);
    } else {
        report(d, OK, "CPU", "%d usable", cores);
    }
    report(d, OK, "threads", "a rank takes its share of the cores it is bound to; threads = N says otherwise");
    report(d, OK, "BLAS", "%s", lw_blas_text());
}

static int64_t meminfo_mib(const char *key)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[256];
    int64_t kib = -1;
    while (file != NULL && kib < 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            kib = strtoll(line + strlen(key), NULL, 10);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib < 0 ? -1 : kib / 1024;
}

static void check_memory(doctor *d)
{
    int64_t free_mib = meminfo_mib("MemAvailable:");
    char limit[64];
    first_line("/sys/fs/cgroup/memory.max", limit, sizeof limit);
    int64_t limit_mib = limit[0] >= '0' && limit[0] <= '9' ? strtoll(limit, NULL, 10) / MIB : INT64_MAX;
    int64_t usable_mib = free_mib < limit_mib ? free_mib : limit_mib;
    if (usable_mib < 0) {
        report(d, WARN, "memory", "unknown: /proc/meminfo cannot be read");
    } else if (usable_mib < LOW_MEMORY_MIB) {
        report(d, WARN, "memory", "%" PRId64 " MiB free; the embedded default wants %" PRId64, usable_mib,
               LOW_MEMORY_MIB);
    } else {
        report(d, OK, "memory", "%.1f GiB free", (double)usable_mib / 1024.0);
    }
    struct rlimit locked;
    if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY) {
        report(d, WARN, "memlock",
               "at most %" PRIu64 " KiB of locked memory; this matters only with InfiniBand, where the node should say "
               "unlimited (ulimit -l)",
               (uint64_t)locked.rlim_cur / 1024);
    } else {
        report(d, OK, "memlock", "unlimited");
    }
    struct statvfs shm;
    if (statvfs("/dev/shm", &shm) != 0) {
        report(d, WARN, "/dev/shm", "not there; MPI between ranks of a node will be slow or refuse");
    } else {
        int64_t mib = (int64_t)((uint64_t)shm.f_bavail * shm.f_frsize / (uint64_t)MIB);
        report(d, mib < LOW_SHM_MIB ? WARN : OK, "/dev/shm", "%" PRId64 " MiB free%s", mib,
               mib < LOW_SHM_MIB ? "; MPI keeps messages between ranks of a node there: docker run --shm-size=1g" : "");
    }
}

static void check_gpu(doctor *d, int index)
{
    lw_error err = {.text = ""};
    lw_cuda_info info;
    if (lw_cuda_info_of(index, &err, &info) != LW_OK) {
        report(d, WARN, "GPU", "%d: %s", index, err.text);
        return;
    }
    const double gib = 1073741824.0;
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    char free_text[64] = "free memory unknown (another process may have it to itself)";
    if (lw_cuda_memory_of(index, &err, &free_bytes, &total_bytes) == LW_OK) {
        snprintf(free_text, sizeof free_text, "%.1f free", (double)free_bytes / gib);
    }
    report(d, OK, "GPU", "%d: %s, %s, compute capability %d.%d, %.1f GiB, %s", index, info.name, info.uuid, info.major,
           info.minor, (double)info.memory_bytes / gib, free_text);
}

static void check_gpus(doctor *d)
{
    char driver[256];
    char why[1024];
    int count = lw_cuda_device_count();
    if (!lw_cuda_built()) {
        first_line("/proc/driver/nvidia/version", driver, sizeof driver);
        report(d, OK, "GPU", "%s; not %s by this build", driver[0] == '\0' ? "no NVIDIA driver" : driver,
               driver[0] == '\0' ? "needed" : "used");
    } else if (count == 0) {
        lw_cuda_why_not(why, sizeof why);
        report(d, OK, "GPU", "none: %s; lwmpi runs on the CPU here", why);
    }
    for (int i = 0; i < count; i++) {
        check_gpu(d, i);
    }
}

static void check_backends(doctor *d)
{
    lw_error err = {.text = ""};
    lw_device *dev = NULL;
    char cuda[64];
    char cublas[64];
    char nccl[64];
    char architectures[128];
    if (lw_device_open("cpu", 0, 1, &err, &dev) == LW_OK) {
        report(d, OK, "backend", "%s", dev->description);
        lw_device_close(&dev);
    } else {
        report(d, MISSING, "backend", "%s", err.text);
    }
    if (!lw_cuda_built()) {
        report(d, OK, "backend", "cuda, nccl: not in this build");
        return;
    }
    lw_cuda_version(cuda, sizeof cuda);
    lw_cublas_version(cublas, sizeof cublas);
    lw_nccl_version(nccl, sizeof nccl);
    lw_cuda_architectures(architectures, sizeof architectures);
    report(d, OK, "backend", "cuda: CUDA %s, cuBLAS %s, NCCL %s, kernels for %s", cuda, cublas, nccl, architectures);
}

static void check_slurm(doctor *d)
{
    char path[PATH_MAX];
    const char *job = getenv("SLURM_JOB_ID");
    if (!on_path("sbatch", path, sizeof path)) {
        report(d, OK, "Slurm", "not here; not needed by mpirun");
    } else {
        report(d, OK, "Slurm", "%s%s%s", path, job != NULL ? ", inside job " : "", job != NULL ? job : "");
    }
}

// --- the embedded default

static bool readable(doctor *d, const char *what, const char *dir, const char *name)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s%s%s", dir, name[0] != '\0' ? "/" : "", name);
    if (length < 0 || (size_t)length >= sizeof path || access(path, R_OK) != 0) {
        report(d, MISSING, what, "%s cannot be read: %s", path, strerror(errno));
        return false;
    }
    return true;
}

static void check_models(doctor *d, const lw_config *config)
{
    for (int64_t i = 0; i < config->model_count; i++) {
        const lw_model_config *model = &config->models[i];
        lw_error err = {.text = ""};
        lw_safetensors *weights = NULL;
        if (!readable(d, "model", model->path, "config.json") || !readable(d, "model", model->path, "tokenizer.json")) {
            continue;
        }
        if (model->init == LW_MODEL_INIT_RANDOM) {
            report(d, OK, "model", "%s: the shapes of %s, random weights", model->name, model->path);
            continue;
        }
        if (lw_safetensors_open(model->path, &err, &weights) != LW_OK) {
            report(d, MISSING, "model", "%s", err.text);
            continue;
        }
        report(d, OK, "model", "%s: %s, %" PRId64 " tensors", model->name, model->path, lw_safetensors_count(weights));
        lw_safetensors_close(&weights);
    }
}

// The run directory is made on demand, so its nearest ancestor that exists has to be writable.
static void check_run_dir(doctor *d, const char *run_dir)
{
    char dir[PATH_MAX];
    int length = snprintf(dir, sizeof dir, "%s", run_dir);
    if (length < 0 || (size_t)length >= sizeof dir) {
        report(d, MISSING, "runs", "the path of the run directory is too long");
        return;
    }
    while (access(dir, F_OK) != 0) {
        char *slash = strrchr(dir, '/');
        if (slash == NULL) {
            (void)strcpy(dir, ".");
        } else {
            slash[slash == dir] = '\0';
        }
    }
    struct statvfs disk;
    if (access(dir, W_OK | X_OK) != 0) {
        report(d, MISSING, "runs", "%s cannot be written: %s; name another place with run.dir=DIR", dir,
               strerror(errno));
    } else if (statvfs(dir, &disk) == 0) {
        int64_t mib = (int64_t)((uint64_t)disk.f_bavail * disk.f_frsize / (uint64_t)MIB);
        report(d, mib < LOW_DISK_MIB ? WARN : OK, "runs", "%s will be written; %.1f GiB free", run_dir,
               (double)mib / 1024.0);
    } else {
        report(d, OK, "runs", "%s will be written", run_dir);
    }
}

static void check_default(doctor *d)
{
    lw_error err = {.text = ""};
    char *path = NULL;
    lw_config *config = NULL;
    if (lw_path_default_config(&err, &path) != LW_OK || lw_config_load(path, 0, NULL, &err, &config) != LW_OK) {
        report(d, MISSING, "default", "%s", err.text);
        free(path);
        return;
    }
    report(d, OK, "default", "%s", path);
    check_models(d, config);
    bool train = readable(d, "data", config->data.train, "");
    bool eval = config->data.eval[0] == '\0' || readable(d, "data", config->data.eval, "");
    if (train && eval) {
        report(d, OK, "data", "%s%s%s", config->data.train, config->data.eval[0] != '\0' ? ", " : "",
               config->data.eval);
    }
    check_run_dir(d, config->run.dir);
    lw_config_destroy(&config);
    free(path);
}

typedef struct arguments {
    bool rank;
} arguments;

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {0};
    int count;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    if (count > 0) {
        return lw_fail(err, LW_ERR_USAGE, "doctor takes no arguments, not \"%.100s\"; lwmpi help doctor", argv[1]);
    }
    if (a.rank) {
        return be_a_rank(err);
    }
    if (lw_launcher_rank() != 0) {
        return LW_OK;
    }
    doctor d = {.out = stdout};
    report(&d, OK, "lwmpi", "%s%s%s, %s, %s", lw_version(), lw_commit()[0] != '\0' ? " " : "", lw_commit(),
           lw_compiler(), lw_build_type());
    check_mpi(&d);
    check_cpu(&d);
    check_memory(&d);
    check_gpus(&d);
    check_backends(&d);
    check_slurm(&d);
    check_default(&d);
    if (d.missing > 0) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "doctor: the embedded default cannot run here: %d thing%s missing",
                       d.missing, d.missing == 1 ? " is" : "s are");
    }
    fprintf(d.out, "\nThe embedded default can run here: mpirun -np 2 lwmpi\n");
    return LW_OK;
}

const lw_command lw_command_doctor = {
    .name = "doctor",
    .summary = "what this build and this machine can do, and what is missing",
    .usage = "doctor",
    .text = "Looks at MPI and its launcher, processors and threads, memory, GPUs, Slurm, the limits that matter, the "
            "embedded default and its models, and the place where runs are written. Each line says ok, warn or "
            "missing, with what to do.",
    .options = {{"rank", NULL, NULL, LW_OPTION_INTO(arguments, rank)}}, // see check_launch
    .exits = {{"0", "the embedded default can run here"}, {"1", "something it needs is missing"}},
    .run = run,
};
