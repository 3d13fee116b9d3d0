#!/usr/bin/env bash
# Who may include whom: every #include of src, kernels and mpi against layers.txt, internal headers against their
# folder, and headers of libraries against the folders that wrap them.
set -euo pipefail
cd -- "$LWMPI_SOURCE_DIR"

# What a folder is called in layers.txt: src/model/decoder.c -> model, mpi/ring.c -> mpi, kernels/cpu/gemm.c -> kernels.
find src kernels mpi -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | grep -vx src/main.c | LC_ALL=C sort |
    xargs grep -nE '^[[:space:]]*#[[:space:]]*include' | awk -v rows=tests/tidy/layers.txt '
    function wrong(text) { print text; faults++ }
    function folder_of(path, parts) {
        split(path, parts, "/")
        return parts[1] == "src" ? parts[2] : parts[1]
    }
    BEGIN {
        while ((getline line < rows) > 0) {
            if (line ~ /^#/ || line !~ /:/)
                continue
            split(line, halves, ":")
            from = halves[1]
            known[from] = 1
            count = split(halves[2], names, " ")
            for (i = 1; i <= count; i++) {
                if (!(names[i] in known) || names[i] == from)
                    wrong(rows ": the row of " from " names " names[i] ", which has no row above it")
                may[from, names[i]] = 1
            }
        }
        # Headers of libraries, and the only files that may include them.
        home["mpi.h"] = "^mpi/|^src/core/version.c$"
        home["cblas.h"] = "^kernels/cpu/|^src/core/version.c$"
        home["openblas_config.h"] = "^kernels/cpu/|^src/core/version.c$"
        home["libconfig.h"] = "^src/config/|^src/core/version.c$"
        home["pcre2.h"] = "^src/tokenizer/|^src/core/version.c$"
        home["utf8proc.h"] = "^src/tokenizer/|^src/core/|^src/eval/score.c$"
        home["xxhash.h"] = "^src/core/|^src/io/"
        home["jansson.h"] = "^src/"
        home["nccl.h"] = "^mpi/[a-z_]*nccl"
        home["cuda"] = "^kernels/cuda/|^mpi/[a-z_]*nccl" # cuda_runtime.h, cuda_bf16.h, cublasLt.h ...
    }
    {
        split($0, at, ":")
        file = at[1]
        where = at[1] ":" at[2] ": "
        from = folder_of(file)
        header = $0
        sub(/^[^<"]*[<"]/, "", header)
        sub(/[>"].*/, "", header)
        if (!(from in known))
            wrong(where from " has no row in " rows)
        if ($0 ~ /include[[:space:]]*</) {
            name = header ~ /^(cuda|cublas|curand|nvtx)/ ? "cuda" : header
            if (name in home && file !~ home[name])
                wrong(where "<" header "> is wrapped by other files: " home[name])
            next
        }
        if (header !~ /\//) { # a neighbour, or made by the build
            if (file ~ /^src\// && header != "lw_version_generated.h")
                wrong(where "\"" header "\": in src an include names the folder")
            next
        }
        to = folder_of(header)
        if (!(to in known))
            wrong(where "\"" header "\": " to " has no row in " rows)
        else if (to != from && !((from, to) in may))
            wrong(where from " includes \"" header "\", and its row in " rows " does not name " to)
        if (header ~ /_internal\.(h|cuh)$/ && to != from)
            wrong(where "\"" header "\" is internal to " to)
    }
    END {
        if (NR == 0)
            wrong("no include was found at all: the test looks in the wrong place")
        exit faults > 0
    }'
