// programs.c: the test programs of the kit for GPUs (target `gpu_tests`) as one, so that the kernels are in it once.
//
//   lwmpi_gpu_tests PROGRAM [ARGUMENT ...]
#include <stdio.h>
#include <string.h>

// Their `main`, renamed (cmake/LwBundle.cmake).
int test_ops_ops(int argc, char **argv);
int test_ops_cuda(void);
int test_parity_lora(int argc, char **argv);

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "test_ops_ops") == 0) {
        return test_ops_ops(argc - 1, argv + 1);
    }
    if (strcmp(name, "test_ops_cuda") == 0) {
        return test_ops_cuda();
    }
    if (strcmp(name, "test_parity_lora") == 0) {
        return test_parity_lora(argc - 1, argv + 1);
    }
    printf("usage: lwmpi_gpu_tests test_ops_ops|test_ops_cuda|test_parity_lora [ARGUMENT ...]\n");
    return 2;
}
