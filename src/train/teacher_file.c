// teacher_file.c: the layout of the file, and reading, checking and writing its chunks.
#include "train/teacher_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/hash.h"
#include "core/signals.h"
#include "io/atomic_file.h"
#include "io/files.h"

enum {
    PAGE_BYTES = 4096,
    FEWEST_CHUNKS = 64,          // if there are that many samples
    MOST_CHUNK_BYTES = 64 << 20, // unless one sample is larger
};

static const char file_magic[8] = "LWTEACH";
static const char chunk_magic[8] = "LWCHUNK";
static const uint32_t byte_order_mark = 0x01020304;

typedef struct header {
    char magic[8];
    uint32_t byte_order, version;
    uint64_t key, weights, tokens;
    int64_t type, d, k, samples, rows, chunk_samples;
} header;
_Static_assert(sizeof(header) == 88, "the header has no padding");

typedef struct chunk_head {
    char magic[8];
    uint64_t key;
    int64_t chunk;
    uint64_t hash; // of the samples' hashes, which follow
} chunk_head;
_Static_assert(sizeof(chunk_head) == 32, "a chunk's head has no padding");

struct lw_teacher_file {
    const lw_teacher_index *index; // borrowed
    char *path;
    int fd;
    uint64_t *hash;       // (samples) of each sample's rows; valid for chunks that were loaded
    unsigned char *table; // the head and the hashes of a chunk
    unsigned char *rows;  // of a chunk that is being checked; allocated on first use
};

// --- index

int64_t lw_teacher_index_first(const lw_teacher_index *l, int64_t chunk)
{
    return chunk < l->chunks ? chunk * l->chunk_samples : l->samples;
}

int64_t lw_teacher_index_rows(const lw_teacher_index *l)
{
    return l->first_row[l->samples];
}

int64_t lw_teacher_index_bytes(const lw_teacher_index *l)
{
    return l->chunk_at[l->chunks];
}

static int64_t rows_before(const lw_teacher_index *l, int64_t chunk)
{
    return l->first_row[lw_teacher_index_first(l, chunk)];
}

static int64_t chunk_samples_of(const lw_teacher_index *l)
{
    int64_t most_rows = 1;
    for (int64_t i = 0; i < l->samples; i++) {
        int64_t rows = l->first_row[i + 1] - l->first_row[i];
        most_rows = rows > most_rows ? rows : most_rows;
    }
    int64_t n = (l->samples + FEWEST_CHUNKS - 1) / FEWEST_CHUNKS;
    n = n < LW_TEACHER_CHUNK_SAMPLES ? n : LW_TEACHER_CHUNK_SAMPLES;
    while (n > 1 && n > MOST_CHUNK_BYTES / l->row_bytes / most_rows) {
        n--;
    }
    return n > 0 ? n : 1;
}

static int64_t table_bytes(const lw_teacher_index *l, int64_t chunk)
{
    int64_t n = lw_teacher_index_first(l, chunk + 1) - lw_teacher_index_first(l, chunk);
    return (int64_t)sizeof(chunk_head) + n * (int64_t)sizeof(uint64_t);
}

// Returns false if an offset does not fit in 64 bits.
static bool place_chunks(lw_teacher_index *l)
{
    int64_t at = PAGE_BYTES;
    for (int64_t c = 0; c < l->chunks; c++) {
        int64_t bytes;
        l->chunk_at[c] = at;
        if (__builtin_mul_overflow(rows_before(l, c + 1) - rows_before(l, c), l->row_bytes, &bytes)) {
            return false;
        }
        l->chunk_bytes = bytes > l->chunk_bytes ? bytes : l->chunk_bytes;
        if (__builtin_add_overflow(at, bytes, &at) || __builtin_add_overflow(at, table_bytes(l, c) + PAGE_BYTES, &at)) {
            return false;
        }
        at -= at % PAGE_BYTES;
    }
    l->chunk_at[l->chunks] = at;
    return true;
}

lw_status lw_teacher_index_finish(lw_teacher_index *l, lw_error *err)
{
    l->row_bytes = l->d * (int64_t)lw_dtype_bytes(l->type);
    l->chunk_samples = chunk_samples_of(l);
    l->chunks = (l->samples + l->chunk_samples - 1) / l->chunk_samples;
    l->chunk_at = calloc((size_t)l->chunks + 1, sizeof *l->chunk_at);
    if (l->chunk_at == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the table of a teacher's states");
    }
    if (!place_chunks(l)) {
        return lw_fail(err, LW_ERR_CONFIG, "a teacher's states of %lld samples exceed any file system: lower loss.k",
                       (long long)l->samples);
    }
    return LW_OK;
}

void lw_teacher_index_free(lw_teacher_index *l)
{
    free(l->first_row);
    free(l->chunk_at);
    *l = (lw_teacher_index){0};
}

static header header_of(const lw_teacher_index *l)
{
    header h = {.byte_order = byte_order_mark,
                .version = LW_TEACHER_FILE_VERSION,
                .key = l->key,
                .weights = l->weights,
                .tokens = l->tokens,
                .type = (int64_t)l->type,
                .d = l->d,
                .k = l->k,
                .samples = l->samples,
                .rows = lw_teacher_index_rows(l),
                .chunk_samples = l->chunk_samples};
    memcpy(h.magic, file_magic, sizeof h.magic);
    return h;
}

// --- reading and writing at an offset

static lw_status read_at(const lw_teacher_file *f, int64_t at, size_t bytes, lw_error *err, void *out)
{
    unsigned char *p = out;
    while (bytes > 0) {
        ssize_t n = pread(f->fd, p, bytes, (off_t)at);
        if (n == 0) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: ends at byte %lld, inside what was there before", f->path,
                           (long long)at);
        }
        if (n < 0 && errno != EINTR) {
            return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot read", f->path);
        }
        if (n > 0) {
            p += n;
            at += n;
            bytes -= (size_t)n;
        }
    }
    return LW_OK;
}

static lw_status write_at(const lw_teacher_file *f, int64_t at, size_t bytes, const void *data, lw_error *err)
{
    const unsigned char *p = data;
    while (bytes > 0) {
        ssize_t n = pwrite(f->fd, p, bytes, (off_t)at);
        if (n < 0 && errno != EINTR) {
            return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot write", f->path);
        }
        if (n > 0) {
            p += n;
            at += n;
            bytes -= (size_t)n;
        }
    }
    return LW_OK;
}

// --- the file as a whole

static bool has_index(int fd, int64_t bytes, const lw_teacher_index *l)
{
    header wanted = header_of(l);
    header found;
    return bytes == lw_teacher_index_bytes(l) && pread(fd, &found, sizeof found, 0) == (ssize_t)sizeof found &&
           memcmp(&wanted, &found, sizeof found) == 0;
}

// Checks that there is room for the part of `bytes` that is not on the disk yet. If the file system does not report its
// free space, a lack of it shows when the file is written.
static lw_status check_room(const char *path, int64_t bytes, lw_error *err)
{
    char *dir = NULL;
    struct statvfs fs;
    struct stat file;
    LW_TRY(lw_path_parent(path, err, &dir));
    bool known = statvfs(dir, &fs) == 0;
    free(dir);
    int64_t there = stat(path, &file) == 0 ? (int64_t)file.st_blocks * 512 : 0;
    int64_t available = 0;
    if (known && !__builtin_mul_overflow(fs.f_bavail, fs.f_frsize, &available) && available < bytes - there) {
        return lw_fail(err, LW_ERR_IO,
                       "%s: a teacher's states need %.1f MB there, and %.1f MB are free; make room, lower loss.k, or "
                       "name another folder with loss.kd_cache",
                       path, 1e-6 * (double)(bytes - there), 1e-6 * (double)available);
    }
    return LW_OK;
}

// Makes a file of the right size in which no chunk has a head.
static lw_status make_empty(const char *path, const lw_teacher_index *l, lw_error *err)
{
    header h = header_of(l);
    LW_TRY(lw_write_file_atomic(path, &h, sizeof h, err));
    if (truncate(path, (off_t)lw_teacher_index_bytes(l)) != 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot make it %lld bytes long", path,
                             (long long)lw_teacher_index_bytes(l));
    }
    return LW_OK;
}

lw_status lw_teacher_file_prepare(const char *path, const lw_teacher_index *l, lw_error *err)
{
    lw_error ignored; // a file that is not usable is replaced, whatever the reason
    char *dir = NULL;
    int fd = -1;
    int64_t bytes = 0;
    LW_TRY(lw_path_parent(path, err, &dir));
    lw_status status = lw_mkdir_p(dir, err);
    free(dir);
    LW_TRY(status);
    bool good = false;
    if (lw_path_is_file(path) && lw_open_own_file(path, false, &ignored, &fd, &bytes) == LW_OK) {
        good = has_index(fd, bytes, l);
        close(fd);
    }
    LW_TRY(check_room(path, lw_teacher_index_bytes(l), err));
    return good ? LW_OK : make_empty(path, l, err);
}

lw_status lw_teacher_file_open(const char *path, const lw_teacher_index *l, bool writable, lw_error *err,
                               lw_teacher_file **out)
{
    int64_t bytes = 0;
    lw_teacher_file *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to open %s", path);
    }
    *f = (lw_teacher_file){.index = l, .fd = -1};
    f->path = strdup(path);
    f->hash = calloc((size_t)l->samples + 1, sizeof *f->hash);
    f->table = malloc(sizeof(chunk_head) + (size_t)l->chunk_samples * sizeof *f->hash);
    lw_status status = LW_OK;
    if (f->path == NULL || f->hash == NULL || f->table == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the hashes of %lld samples", (long long)l->samples);
    }
    if (status == LW_OK) {
        status = lw_open_own_file(path, writable, err, &f->fd, &bytes);
    }
    if (status == LW_OK && !has_index(f->fd, bytes, l)) {
        status = lw_fail(err, LW_ERR_FORMAT,
                         "%s: is not the file of a teacher's states that was prepared; do all nodes see the same one?",
                         path);
    }
    if (status != LW_OK) {
        lw_teacher_file_close(&f);
        return status;
    }
    *out = f;
    return LW_OK;
}

void lw_teacher_file_close(lw_teacher_file **file)
{
    lw_teacher_file *f = *file;
    if (f != NULL) {
        if (f->fd >= 0) {
            close(f->fd);
        }
        free(f->path);
        free(f->hash);
        free(f->table);
        free(f->rows);
        free(f);
    }
    *file = NULL;
}

lw_status lw_teacher_file_lock(lw_teacher_file *f, double wait_s, lw_error *err)
{
    double start_s = lw_now_s();
    const struct timespec pause = {.tv_nsec = 50000000};
    while (flock(f->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return LW_OK;
        }
        LW_TRY(lw_signal_check(LW_OK));
        if (lw_now_s() - start_s > wait_s) {
            return lw_fail(err, LW_ERR_IO, "%s: another job is making these states; start again when it has", f->path);
        }
        nanosleep(&pause, NULL);
    }
    return LW_OK;
}

// --- chunks

// The hash includes the key and the sample's number, so that rows of another file or another sample do not pass.
static uint64_t hash_rows(const lw_teacher_index *l, int64_t sample, const void *rows)
{
    int64_t bytes = (l->first_row[sample + 1] - l->first_row[sample]) * l->row_bytes;
    return lw_xxh64(rows, (size_t)bytes, l->key + (uint64_t)sample);
}

static chunk_head head_of(const lw_teacher_index *l, int64_t chunk, const uint64_t *hash, int64_t samples)
{
    chunk_head head = {.key = l->key, .chunk = chunk};
    memcpy(head.magic, chunk_magic, sizeof head.magic);
    head.hash = lw_xxh64(hash, (size_t)samples * sizeof *hash, l->key);
    return head;
}

lw_status lw_teacher_file_load(lw_teacher_file *f, int64_t chunk, lw_error *err, bool *whole)
{
    const lw_teacher_index *l = f->index;
    int64_t first = lw_teacher_index_first(l, chunk);
    int64_t samples = lw_teacher_index_first(l, chunk + 1) - first;
    uint64_t *hash = f->hash + first;
    LW_TRY(read_at(f, l->chunk_at[chunk], (size_t)table_bytes(l, chunk), err, f->table));
    memcpy(hash, f->table + sizeof(chunk_head), (size_t)samples * sizeof *hash);
    chunk_head wanted = head_of(l, chunk, hash, samples);
    *whole = memcmp(&wanted, f->table, sizeof wanted) == 0;
    return LW_OK;
}

lw_status lw_teacher_file_check(lw_teacher_file *f, int64_t chunk, lw_error *err, bool *whole)
{
    const lw_teacher_index *l = f->index;
    int64_t first = lw_teacher_index_first(l, chunk);
    int64_t end = lw_teacher_index_first(l, chunk + 1);
    int64_t bytes = (l->first_row[end] - l->first_row[first]) * l->row_bytes;
    LW_TRY(lw_teacher_file_load(f, chunk, err, whole));
    if (!*whole) {
        return LW_OK;
    }
    if (f->rows == NULL && (f->rows = malloc((size_t)l->chunk_bytes + 1)) == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to check %s", f->path);
    }
    LW_TRY(read_at(f, l->chunk_at[chunk] + table_bytes(l, chunk), (size_t)bytes, err, f->rows));
    for (int64_t i = first; i < end && *whole; i++) {
        const unsigned char *rows = f->rows + (l->first_row[i] - l->first_row[first]) * l->row_bytes;
        *whole = hash_rows(l, i, rows) == f->hash[i];
    }
    return LW_OK;
}

lw_status lw_teacher_file_write(lw_teacher_file *f, int64_t chunk, const void *rows, lw_error *err)
{
    const lw_teacher_index *l = f->index;
    int64_t first = lw_teacher_index_first(l, chunk);
    int64_t end = lw_teacher_index_first(l, chunk + 1);
    int64_t at = l->chunk_at[chunk];
    int64_t bytes = (l->first_row[end] - l->first_row[first]) * l->row_bytes;
    for (int64_t i = first; i < end; i++) {
        f->hash[i] =
            hash_rows(l, i, (const unsigned char *)rows + (l->first_row[i] - l->first_row[first]) * l->row_bytes);
    }
    chunk_head head = head_of(l, chunk, f->hash + first, end - first);
    memcpy(f->table, &head, sizeof head);
    memcpy(f->table + sizeof head, f->hash + first, (size_t)(end - first) * sizeof *f->hash);
    LW_TRY(write_at(f, at + table_bytes(l, chunk), (size_t)bytes, rows, err));
    return write_at(f, at, (size_t)table_bytes(l, chunk), f->table, err);
}

lw_status lw_teacher_file_sync(lw_teacher_file *f, lw_error *err)
{
    if (fdatasync(f->fd) != 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot sync", f->path);
    }
    return LW_OK;
}

lw_status lw_teacher_file_read(const lw_teacher_file *f, int64_t sample, lw_error *err, void *out)
{
    const lw_teacher_index *l = f->index;
    int64_t chunk = sample / l->chunk_samples;
    int64_t before = l->first_row[sample] - rows_before(l, chunk);
    int64_t bytes = (l->first_row[sample + 1] - l->first_row[sample]) * l->row_bytes;
    int64_t at = l->chunk_at[chunk] + table_bytes(l, chunk) + before * l->row_bytes;
    LW_TRY(read_at(f, at, (size_t)bytes, err, out));
    if (hash_rows(l, sample, out) != f->hash[sample]) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: the states of sample %lld are not what was written; start again: what is damaged is made "
                       "again",
                       f->path, (long long)sample);
    }
    return LW_OK;
}
