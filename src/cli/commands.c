#include "cli/command.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config/keys.h"
#include "mpi/comm.h"

#define EXIT_DONE   \
    {               \
        "0", "done" \
    }
#define EXIT_FAILED                                                           \
    {                                                                         \
        "1", "failed; the message on stderr says what, where, and what to do" \
    }
#define EXIT_USAGE                          \
    {                                       \
        "2", "usage or configuration error" \
    }
#define OPTION_JSON(what)                                   \
    {                                                       \
        "--json", what " as JSON, the only thing on stdout" \
    }
#define OPTION_OVERRIDE                                                                          \
    {                                                                                            \
        "key=value", "sets a configuration key, last one wins: a libconfig value or a bare word" \
    }

static const lw_command commands[] = {
    {
        .name = "train",
        .summary = "train the wire (the default command)",
        .usage = "[train] [CONFIG] [key=value ...]",
        .text =
            "Trains the encoder and one adapter for each frozen language model of CONFIG, evaluates them, and leaves "
            "everything in the run directory. Without CONFIG the embedded default, configs/tiny.cfg, is taken: two "
            "small models and their data, which fit any machine.\n\n"
            "Start it under mpirun or srun to use several ranks: they share each step's samples, and the result is "
            "the same at any number of ranks, to rounding. A run directory that holds a checkpoint is continued from "
            "the newest one that is whole; name another with run.dir=DIR to begin anew. A raised train.epochs or "
            "train.max_steps goes on longer; other changes of keys that influence results need "
            "run.accept_changes=true.\n\n"
            "Checkpoints are written beside the steps. A file that cannot be written is tried twice; then the run "
            "ends, and the checkpoints from before are as they were. SIGTERM, SIGUSR1 and Ctrl-C end the run at the "
            "next step, after a checkpoint; the same command continues it.",
        .options = {OPTION_OVERRIDE},
        .exits = {EXIT_DONE,
                  EXIT_FAILED,
                  EXIT_USAGE,
                  {"75", "stopped by SIGTERM or SIGUSR1 after a checkpoint: start it again"},
                  {"130", "interrupted (Ctrl-C) after a checkpoint"}},
        .examples = {{"mpirun -np 2 lwmpi", "the embedded default on two ranks"},
                     {"lwmpi train my.cfg train.lr=3e-4 run.dir=runs/lr3e-4", "another learning rate, another run"},
                     {"srun --mpi=pmix lwmpi my.cfg", "under Slurm"}},
        .takes_config = true,
        .run = lw_cmd_train,
    },
    {
        .name = "eval",
        .summary = "evaluate a checkpoint",
        .usage = "eval CONFIG [key=value ...] [--checkpoint DIR] [--predictions FILE] [--against RUN] [--json]\n"
                 "      eval CONFIG [key=value ...] --gates [--checkpoint DIR] [--json]",
        .text =
            "Answers the questions of data.eval with every model of CONFIG and compares with the gold answers: exact "
            "match, token F1, negative log-likelihood of an answer token, accuracy of the first one. It does so for "
            "the full text prompt (text), the wire (latent) and three controls: no context at all (no_context), the "
            "latents of another sample (shuffled), and the text prompt cut to as many tokens as there are latents "
            "(truncated). Compression is given in tokens and in bytes. The headline is the gain over shuffled: without "
            "it nothing is read from the wire. Intervals are 95 % bootstrap intervals over contexts (eval.bootstrap). "
            "With "
            "several models, joint is the one of their answers that all together find likeliest (eval.joint).\n\n"
            "eval.quantise=true adds the wire in 16, 8, 6 and 4 bits a number, eval.curve=true that of fewer "
            "latents.\n\n"
            "Several ranks share the samples; the figures are the same at any number of ranks.",
        .options =
            {{"--checkpoint DIR", "a checkpoint directory, RUN/latest or RUN/best; without it the newest one of "
                                  "run.dir that is whole"},
             {"--predictions FILE", "write question, gold answers and every system's answer, a JSON object a sample"},
             {"--against RUN", "compare the latent answers, sample by sample, with those in RUN/predictions.jsonl: "
                               "differences with intervals, and sign-flip tests"},
             {"--gates", "check what has to hold before any figure counts: the soft-token path answers as the text "
                         "does, labels are shifted once, packing changes no loss, training and evaluation agree, "
                         "latents differ, 32 items can be learned by heart (eval.gate_steps). Exit code 1 where "
                         "one fails"},
             OPTION_JSON("the figures"),
             OPTION_OVERRIDE},
        .exits = {EXIT_DONE, EXIT_FAILED, EXIT_USAGE},
        .examples = {{"mpirun -np 2 lwmpi eval my.cfg", "the newest checkpoint of my.cfg's run directory"}},
        .takes_config = true,
        .run = lw_cmd_eval,
    },
    {
        .name = "encode",
        .summary = "texts to latents: the sending end of the wire",
        .usage = "encode CONFIG [key=value ...] [--checkpoint DIR] [--bits N] < texts.jsonl > wires.safetensors",
        .text =
            "Reads texts, one JSON object a line, {\"id\": ..., \"context\": ..., \"question\": ...}, and writes their "
            "latents. With wire.compress = \"context\" the encoder reads the context alone; a question is not needed "
            "then, "
            "and one that is given travels beside the latents as text. Without \"id\" a text is named by its line. A "
            "text "
            "longer than prompt.max_source_bytes is cut, with a warning.\n\n"
            "One process. It loads the encoder of the checkpoint and nothing of the models that will read the latents.",
        .options = {{"--checkpoint DIR", "as for lwmpi eval"},
                    {"--bits N", "32, 16, 8, 6 or 4 bits a number; 32 when left out. 8 and less share a scale among 32 "
                                 "numbers"},
                    OPTION_OVERRIDE},
        .exits = {EXIT_DONE, EXIT_FAILED, EXIT_USAGE},
        .examples = {{"lwmpi encode my.cfg --bits 8 < texts.jsonl | lwmpi answer my.cfg", "both ends of the wire"}},
        .run = lw_cmd_encode,
    },
    {
        .name = "answer",
        .summary = "latents to answers: the receiving end of the wire",
        .usage = "answer CONFIG [key=value ...] [--checkpoint DIR] [--wires FILE] [--questions FILE] [--tokens] "
                 "< wires.safetensors",
        .text =
            "Reads the latents that lwmpi encode wrote and lets every model of CONFIG answer. One JSON object a line: "
            "{\"id\": ..., \"question\": ..., \"answers\": {MODEL: TEXT, ...}}.\n\n"
            "One process. It loads one model after the other and nothing of the encoder. Latents of another encoder "
            "than the "
            "checkpoint's are refused.",
        .options = {{"--checkpoint DIR", "as for lwmpi eval"},
                    {"--wires FILE", "the latents; standard input when left out"},
                    {"--questions FILE",
                     "asks these and not what came with the latents: {\"id\": ..., \"question\": ...} "
                     "a line, any number about each text; without \"id\" one for each text, in order"},
                    {"--tokens", "adds \"tokens\": {MODEL: [ID, ...], ...}"},
                    OPTION_OVERRIDE},
        .exits = {EXIT_DONE, EXIT_FAILED, EXIT_USAGE},
        .examples = {{"lwmpi answer my.cfg --wires wires.safetensors --questions asked.jsonl", ""}},
        .run = lw_cmd_answer,
    },
    {
        .name = "bench",
        .summary = "measure the training step",
        .usage = "bench [CONFIG] [key=value ...] [--steps N] [--warmup N] [--json]",
        .text = "Runs training steps on synthetic samples, with the models and shapes that CONFIG names, and reports "
                "their speed "
                "broken down by phase, beside the rate of the bare matrix products of the same shapes in the same run. "
                "Phases "
                "are timed in steps of their own, each waited for and without CUDA graphs, so together they take "
                "longer than a "
                "step; mfu is against the best round of the largest product. Models with init = \"random\" need only a "
                "config.json. A calibration record is left for lwmpi plan, in runs/calibration or $LWMPI_CALIBRATION.",
        .options = {{"--steps N", "steps that are timed; 20 when left out"},
                    {"--warmup N", "steps before them; 3 when left out"},
                    {"--answer N", "answer tokens of a sample; 8 when left out"},
                    {"--source N", "bytes of text that the encoder reads; 256 when left out"},
                    OPTION_JSON("the measurements"),
                    OPTION_OVERRIDE},
        .exits = {EXIT_DONE, EXIT_FAILED, EXIT_USAGE},
        .examples = {{"mpirun -np 2 lwmpi bench configs/tiny.cfg --json", "two ranks, for a script"}},
        .takes_config = true,
        .run = lw_cmd_bench,
    },
    {
        .name = "plan",
        .summary = "how many GPUs the job is worth: memory, time, decision",
        .usage = "plan [CONFIG] [key=value ...] [--gpus 1,2,4] [--json]",
        .text =
            "Computes what the job of CONFIG takes at each number of GPUs: memory, item by item, from the same layout "
            "that train allocates with; time from a roofline of its operators, corrected by the measurements that "
            "bench "
            "and train leave in runs/calibration ($LWMPI_CALIBRATION); what doubling samples, epochs, batch, latents "
            "or "
            "answers would change; and the smallest count that fits and meets plan.deadline_h, or the time that is "
            "left of a Slurm job. It needs no MPI launch, no GPU and no weights: of the models their config.json, and "
            "where tokenizer or data are missing it says what it assumed instead.\n\n"
            "plan.device names the GPU (h100-sxm, h100-pcie, h200-sxm, a100-40, a100-80, a6000, l40s, v100, rtx4090, "
            "rtx3090), is cpu, or gives the numbers.",
        .options = {{"--gpus 1,2,4", "counts to look at; 1,2,4,8 when left out"},
                    {"--per-node N", "GPUs of a node; the device's usual number when left out"},
                    {"--answer N", "mean answer tokens, where there is no data to count"},
                    {"--source N", "mean bytes that the encoder reads, likewise"},
                    OPTION_JSON("the plan"),
                    OPTION_OVERRIDE},
        .exits = {EXIT_DONE, EXIT_FAILED, {"2", "usage or configuration error, or the job fits no count"}},
        .examples = {{"lwmpi plan configs/llama8b-qwen7b.cfg plan.device=h200-sxm", "the same job on another GPU"}},
        .takes_config = true,
        .run = lw_cmd_plan,
    },
    {
        .name = "slurm",
        .summary = "print a ready sbatch script",
        .usage = "slurm [CONFIG] [key=value ...] [--gpus N] [--nodes N]",
        .text =
            "Prints an sbatch script for the job of CONFIG: as many GPUs as the plan decides on, or --gpus; host "
            "memory "
            "from what is loaded; a time limit from the predicted time and its margin. The script checks the "
            "configuration with a dry run, starts the ranks with srun or mpirun, passes the warning before the time "
            "limit on to them, and goes back into the queue when they have written a checkpoint. Account, partition "
            "and "
            "modules are in slurm/site.sh.",
        .options = {{"--gpus N", "ranks of the job; the plan's decision when left out"},
                    {"--nodes N", "nodes; as few as hold the GPUs when left out"},
                    {"--per-node N", "GPUs of a node; the device's usual number when left out"},
                    OPTION_OVERRIDE},
        .exits = {EXIT_DONE, EXIT_FAILED, {"2", "usage or configuration error, or the job fits no count"}},
        .examples = {{"lwmpi slurm my.cfg > my.sbatch && mkdir -p runs && sbatch my.sbatch", ""}},
        .takes_config = true,
        .run = lw_cmd_slurm,
    },
    {
        .name = "verify",
        .summary = "check a frozen model against a reference",
        .usage = "verify MODEL_DIR REFERENCE.safetensors [--device cpu|cuda|cuda:f32] [--threads N] [--json]",
        .text = "Computes loss and gradient of the frozen model in MODEL_DIR (a Hugging Face directory) for the inputs "
                "in REFERENCE, and prints the relative errors against the loss and gradient stored there.\n\n"
                "REFERENCE holds prefix F32 (B,M,D), suffix_ids I32 (B,S), answer_ids I32 (B,A) padded at the right "
                "with -1, loss F32 (1) and grad_prefix F32 (B,M,D). The input of a sample is its prefix, the embedded "
                "suffix, and the embedded answer without its last token; the loss is the mean of -log p over all "
                "answer tokens of the batch.",
        .options = {{"--device cpu|cuda|cuda:f32",
                     "where to compute; cpu when left out; cuda:f32 keeps weights and activations in f32"},
                    {"--threads N", "CPU threads; 1 when left out"},
                    OPTION_JSON("the errors")},
        .exits = {{"0", "relative errors of loss and gradient within 1e-4 and 1e-3 (cuda, bf16: 2e-2 both)"},
                  {"1", "outside the tolerance, or failed"},
                  EXIT_USAGE},
        .examples = {{"lwmpi verify models/Llama-3.1-8B reference.safetensors", ""}},
        .run = lw_cmd_verify,
    },
    {
        .name = "tokenize",
        .summary = "turn text into token ids",
        .usage = "tokenize MODEL_DIR [--special] < texts.jsonl > ids.jsonl",
        .text = "Reads one JSON object a line, {\"text\": \"...\"}, and writes one a line, {\"ids\": [...]}, with the "
                "tokenizer.json of MODEL_DIR. No special tokens are added.",
        .options = {{"--special", "special-token text in the input becomes that token; without it, it is plain text"}},
        .exits = {EXIT_DONE, EXIT_FAILED, EXIT_USAGE},
        .examples = {{"echo '{\"text\": \"Hello\"}' | lwmpi tokenize configs/tiny/llama", ""}},
        .run = lw_cmd_tokenize,
    },
    {
        .name = "checkpoint",
        .summary = "list and verify the checkpoints of a run",
        .usage = "checkpoint DIR [--json] [--export FILE]",
        .text =
            "Reads every checkpoint of the run directory DIR, or DIR itself where it is a checkpoint, and compares "
            "sizes and hashes of its files with its manifest. A line each: step, samples seen, epoch, when it was "
            "written, size, held-out loss of an answer token where it was measured at that step, and whether it is "
            "whole or what is wrong. `latest` and `best` mark those that the files of that name in the run directory "
            "name. Nothing is changed; a job may be running there.",
        .options = {OPTION_JSON("the list"),
                    {"--export FILE",
                     "writes the trained parameters of the checkpoint DIR, or of the newest one of the run "
                     "that is whole, as a safetensors file for other programs, and lists nothing"}},
        .exits = {{"0", "all of them are whole"}, {"1", "one is damaged, or failed"}, EXIT_USAGE},
        .examples = {{"lwmpi checkpoint runs/tiny", ""},
                     {"lwmpi checkpoint runs/tiny/best --export trainables.safetensors", "encoder and adapters alone"}},
        .run = lw_cmd_checkpoint,
    },
    {
        .name = "report",
        .summary = "a run as one HTML page with plots",
        .usage = "report RUN_DIR [--output FILE]",
        .text =
            "Writes RUN_DIR/report.html: what was trained, with its configuration and checkpoints; losses and rates "
            "over "
            "the steps; the figures of the evaluation, F1 against bytes and against latents where they were measured. "
            "One file that needs no network and no script. Works while the run goes on; what is missing is named.",
        .options = {{"--output FILE", "there instead; - is standard output"}},
        .exits = {EXIT_DONE, EXIT_FAILED, EXIT_USAGE},
        .examples = {{"lwmpi report runs/tiny", ""}},
        .run = lw_cmd_report,
    },
    {
        .name = "doctor",
        .summary = "what this build and this machine can do, and what is missing",
        .usage = "doctor",
        .text =
            "Looks at MPI and its launcher, processors and threads, memory, GPUs, Slurm, the limits that matter, the "
            "embedded default and its models, and the place where runs are written. Each line says ok, warn or "
            "missing, with what to do.",
        .exits = {{"0", "the embedded default can run here"}, {"1", "something it needs is missing"}, EXIT_USAGE},
        .run = lw_cmd_doctor,
    },
    {.name = NULL},
};

const lw_command *lw_commands(void)
{
    return commands;
}

static const lw_command *find(const char *name)
{
    for (const lw_command *c = commands; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

static lw_status fail_unknown(const char *word, lw_error *err)
{
    const char *nearest = NULL;
    int nearest_distance = INT_MAX;
    char list[256] = "";
    for (const lw_command *c = commands; c->name != NULL; c++) {
        int distance = lw_edit_distance(word, c->name);
        if (distance < nearest_distance) {
            nearest_distance = distance;
            nearest = c->name;
        }
        (void)strncat(list, c == commands ? "" : ", ", sizeof list - strlen(list) - 1);
        (void)strncat(list, c->name, sizeof list - strlen(list) - 1);
    }
    if (nearest_distance <= 2) {
        return lw_fail(err, LW_ERR_USAGE,
                       "\"%.100s\" is neither a command nor a file; did you mean \"%s\"? Commands: %s. A configuration "
                       "file is named by its path",
                       word, nearest, list);
    }
    return lw_fail(
        err, LW_ERR_USAGE,
        "\"%.100s\" is neither a command nor a file. Commands: %s. A configuration file is named by its path", word,
        list);
}

// A first word that is not a command may still begin `lwmpi [CONFIG] [key=value ...]`.
static bool starts_train(const char *word)
{
    struct stat info;
    return strpbrk(word, "=/.") != NULL || (stat(word, &info) == 0 && !S_ISDIR(info.st_mode));
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

lw_status lw_request_parse(int argc, char **argv, lw_error *err, lw_request *out)
{
    const char *word = argc > 1 ? argv[1] : "";
    const lw_command *command = find(word);
    if (is_help(word)) {
        *out = (lw_request){.kind = LW_DO_HELP};
        return LW_OK;
    }
    if (strcmp(word, "help") == 0) {
        const lw_command *about = argc > 2 ? find(argv[2]) : NULL;
        if (argc > 2 && about == NULL) {
            return fail_unknown(argv[2], err);
        }
        *out = (lw_request){.kind = LW_DO_HELP, .command = about};
        return LW_OK;
    }
    if (strcmp(word, "--version") == 0) {
        *out = (lw_request){.kind = LW_DO_VERSION};
        return LW_OK;
    }
    if (strcmp(word, "--man") == 0) {
        *out = (lw_request){.kind = LW_DO_MAN};
        return LW_OK;
    }
    if (command == NULL && word[0] == '-') {
        return lw_fail(err, LW_ERR_USAGE, "unknown option \"%.100s\"; lwmpi --help lists commands and options", word);
    }
    if (command == NULL && argc > 1 && !starts_train(word)) {
        return fail_unknown(word, err);
    }
    int skip = command == NULL ? 0 : 1;
    command = command == NULL ? find("train") : command;
    *out = (lw_request){.kind = LW_DO_COMMAND, .command = command, .argc = argc - skip, .argv = argv + skip};
    for (int i = 1; i < out->argc && strcmp(out->argv[i], "--") != 0; i++) {
        if (is_help(out->argv[i])) {
            out->kind = LW_DO_HELP;
        }
    }
    return LW_OK;
}

int lw_launcher_rank(void)
{
    int rank = lw_comm_launch_rank();
    return rank > 0 ? rank : 0;
}
