// replay.c: the main of a fuzz target without libFuzzer: runs every file of the folders that it is given once.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "io/files.h"

static int run_folder(const char *folder)
{
    int runs = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e = NULL; dir != NULL && (e = readdir(dir)) != NULL;) {
        lw_error err = {.text = ""};
        char *path = NULL;
        char *data = NULL;
        size_t bytes = 0;
        if (e->d_name[0] == '.') {
            continue;
        }
        if (lw_path_join(folder, e->d_name, &err, &path) != LW_OK ||
            lw_read_file(path, SIZE_MAX / 2, &err, &data, &bytes) != LW_OK) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
        fprintf(stderr, "%s\n", path);                  // the last one is what a crash is about
        uint8_t *exact = malloc(bytes > 0 ? bytes : 1); // no NUL behind it, for the sanitizer to see what reads on
        FUZZ_CHECK(exact != NULL);
        memcpy(exact, data, bytes);
        free(data);
        free(path);
        LLVMFuzzerTestOneInput(exact, bytes);
        free(exact);
        runs++;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return runs;
}

int main(int argc, char **argv)
{
    int runs = 0;
    for (int i = 1; i < argc; i++) {
        runs += run_folder(argv[i]);
    }
    printf("%d inputs\n", runs);
    return runs > 0 ? 0 : 1;
}
