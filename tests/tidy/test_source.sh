#!/usr/bin/env bash
# The shape of the sources: an opening line in each file, lines of at most 120 columns, functions of at most 60 lines,
# files of at most 500, no tab and no space at a line's end.
set -euo pipefail
cd -- "$LWMPI_SOURCE_DIR"

# Functions that are longer than the rule, as file:name=lines. A row may shrink or go; none is added.
longer="kernels/cuda/attention.cu:attention_tiles=65
kernels/cuda/attention_backward.cu:attention_backward_queries=74
kernels/cuda/attention_backward.cu:attention_backward_keys=71
tests/grad/test_wire.c:main=76
tests/parity/test_generate.c:compare_with_plain_passes=74
tests/unit/test_config.c:test_hash_and_differences=65
tests/unit/test_json_util.c:test_getters=65
tests/unit/test_plan.c:test_calibration=63
tests/unit/test_safetensors_hostile.c:test_hostile_headers=68
tests/unit/test_tokenizer.c:test_malformed=87"

find src kernels mpi tests \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \) | LC_ALL=C sort |
    xargs awk -v longer="${longer//$'\n'/ }" -v columns=120 -v function_lines=60 -v file_lines=500 '
    function wrong(text) { print text; faults++ }
    function end_of_file() {
        if (file != "" && lines > file_lines && file !~ /^tests\//)
            wrong(file ": " lines " lines; a file has at most " file_lines ": split it by subject")
    }
    BEGIN {
        count = split(longer, rows, " ")
        for (i = 1; i <= count; i++) {
            split(rows[i], parts, "=")
            allowed[parts[1]] = parts[2]
        }
    }
    FNR == 1 {
        end_of_file()
        file = FILENAME
        files++
        if ($0 !~ /^\/\/ [^ ]/)
            wrong(file ":1: a file begins with a comment line that says what it is for")
    }
    { lines = FNR }
    length($0) > columns { wrong(file ":" FNR ": " length($0) " columns; at most " columns) }
    /\t/ { wrong(file ":" FNR ": a tab") }
    /[ \t]$/ { wrong(file ":" FNR ": a space at the end of the line") }
    # A function begins where a line in the first column is followed by one with a brace alone, and ends with such a brace.
    /^\{$/ { begin = FNR; name = header }
    /^\}/ {
        if (begin > 0) {
            key = file ":" name
            most = key in allowed ? allowed[key] : function_lines
            if (FNR - begin + 1 > most)
                wrong(file ":" begin ": " name " has " FNR - begin + 1 " lines; at most " most ": give its parts names")
        }
        begin = 0
    }
    /^[A-Za-z_].*\(/ && !/^(typedef|#|struct|enum|extern)/ {
        header = $0
        sub(/\(.*/, "", header)
        sub(/.*[ *]/, "", header)
    }
    header == "__launch_bounds__" && /^ +[a-z_0-9]+\(/ { # the name of a kernel stands on the next line
        header = $1
        sub(/\(.*/, "", header)
    }
    END {
        end_of_file()
        if (files < 300)
            wrong("only " files " files were found: the test looks in the wrong place")
        exit faults > 0
    }'
