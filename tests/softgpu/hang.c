// hang.c: a kernel that never ends. Whatever waits for it is done in time with a failure that says so, or with a call
// of the device's `overdue`. Each case in a process of its own, as the software GPU injects one fault a process.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "device/device.h"
#include "kernels/devices.h"

enum {
    FAILED = 1,
    CALLED = 3, // exit code of a case that ends in `overdue`
    LIMIT_S = 30
};

static const double timeout_s = 0.3;

#define MUST(condition)                                                    \
    do {                                                                   \
        if (!(condition)) {                                                \
            printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            (void)fflush(stdout);                                          \
            _exit(FAILED);                                                 \
        }                                                                  \
    } while (0)

typedef struct hung { // a device whose GPU hangs, and some memory of it
    lw_device *dev;
    float *x; // (ELEMENTS)
} hung;

enum { ELEMENTS = 1 << 20 };

static hung open_hung(void)
{
    lw_error err = {{0}};
    void *memory = NULL;
    hung h = {0};
    MUST(lw_device_open("cuda", 0, 1, &err, &h.dev) == LW_OK);
    MUST(h.dev->ops->alloc(h.dev, ELEMENTS * sizeof *h.x, &err, &memory) == LW_OK);
    h.x = memory;
    h.dev->timeout_s = timeout_s;
    h.dev->ops->axpy(h.dev, 1, 1.0F, h.x, h.x + 1); // the kernel after the self-test's
    return h;
}

// The failure stays, and costs no further wait; nor does closing the device.
static void must_be_lost(hung *h)
{
    lw_error err = {{0}};
    MUST(h->dev->ops->sync(h->dev, &err) == LW_ERR_TIMEOUT);
    MUST(strstr(err.text, "did not finish its work within 0.3 s") != NULL);
    double start_s = lw_now_s();
    err.text[0] = '\0';
    MUST(h->dev->ops->sync(h->dev, &err) == LW_ERR_TIMEOUT && err.text[0] != '\0');
    h->dev->ops->free(h->dev, h->x);
    lw_device_close(&h->dev);
    MUST(lw_now_s() - start_s < timeout_s);
}

static void in_sync(void)
{
    hung h = open_hung();
    must_be_lost(&h);
}

static void in_small_downloads(void)
{
    hung h = open_hung();
    float values[100];
    for (int i = 0; i < 100; i++) { // more than wait for one sync
        h.dev->ops->download(h.dev, h.x + i, sizeof *values, &values[i]);
    }
    must_be_lost(&h);
}

static void in_large_download(void)
{
    hung h = open_hung();
    float *values = malloc(ELEMENTS * sizeof *values);
    MUST(values != NULL);
    h.dev->ops->download(h.dev, h.x, ELEMENTS * sizeof *values, values);
    must_be_lost(&h);
    free(values);
}

static void in_uploads(void)
{
    hung h = open_hung();
    for (int i = 0; i < 100; i++) { // more than may be under way
        const float value = (float)i;
        h.dev->ops->upload(h.dev, &value, sizeof value, h.x + i);
    }
    must_be_lost(&h);
}

static void in_free(void)
{
    lw_error err = {{0}};
    hung h = open_hung();
    h.dev->ops->free(h.dev, h.x);
    h.x = NULL;
    MUST(h.dev->ops->sync(h.dev, &err) == LW_ERR_TIMEOUT);
    lw_device_close(&h.dev);
}

static void in_close(void)
{
    hung h = open_hung();
    lw_device_close(&h.dev);
}

static void end_well(void *context, double waited_s)
{
    MUST(context == NULL && waited_s >= timeout_s);
    _exit(CALLED);
}

// The driver holds about a thousand launches, and then makes the host wait.
static void in_launches(void)
{
    hung h = open_hung();
    h.dev->overdue = end_well;
    for (int i = 0; i < 5000; i++) {
        h.dev->ops->axpy(h.dev, 1, 1.0F, h.x, h.x + 1);
    }
}

static void in_copies(void)
{
    hung h = open_hung();
    h.dev->overdue = end_well;
    for (int i = 0; i < 5000; i++) {
        h.dev->ops->zero(h.dev, sizeof *h.x, h.x);
        h.dev->ops->copy(h.dev, h.x, sizeof *h.x, h.x + 1);
    }
}

static void in_products(void)
{
    hung h = open_hung();
    lw_gemm g = {
        .m = 4, .n = 4, .k = 4, .alpha = 1.0F, .a = h.x, .b = h.x + 64, .c = h.x + 128, .lda = 4, .ldb = 4, .ldc = 4};
    h.dev->overdue = end_well;
    for (int i = 0; i < 5000; i++) {
        h.dev->ops->gemm(h.dev, &g);
    }
}

static void enqueue_one(void *context)
{
    hung *h = context;
    h->dev->ops->axpy(h->dev, 1, 1.0F, h->x, h->x + 1);
}

static void in_replays(void)
{
    hung h = open_hung();
    h.dev->overdue = end_well;
    for (int i = 0; i < 5000; i++) {
        h.dev->ops->replay(h.dev, 1, enqueue_one, &h);
    }
}

static const struct {
    const char *name;
    void (*run)(void);
    int code;
} cases[] = {
    {"sync", in_sync, 0},
    {"small downloads", in_small_downloads, 0},
    {"a large download", in_large_download, 0},
    {"uploads", in_uploads, 0},
    {"free", in_free, 0},
    {"close", in_close, 0},
    {"launches", in_launches, CALLED},
    {"copies", in_copies, CALLED},
    {"products", in_products, CALLED},
    {"replays", in_replays, CALLED},
};

int main(void)
{
    int failures = 0;
    (void)setenv("SOFTGPU_FAIL", "kernel:2:hang", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int state = 0;
        (void)fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            (void)alarm(LIMIT_S);
            cases[i].run();
            _exit(0);
        }
        if (child < 0 || waitpid(child, &state, 0) != child) {
            perror("fork");
            return 1;
        }
        if (!WIFEXITED(state) || WEXITSTATUS(state) != cases[i].code) {
            bool late = WIFSIGNALED(state) && WTERMSIG(state) == SIGALRM;
            printf("FAILED: %s: %s\n", cases[i].name, late ? "still waiting" : "see above");
            failures++;
        }
    }
    printf("hanging kernel: %s\n", failures == 0 ? "passed" : "FAILED");
    return failures > 0;
}
