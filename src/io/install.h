// install.h: where the files that come with lwmpi are. No absolute path is compiled in: an installed tree can be moved.
#ifndef LW_PATHS_H
#define LW_PATHS_H

#include "core/status.h"

// The embedded default, configs/tiny.cfg, in the first of these that has it: $LWMPI_DATADIR, the installed data folder
// (../share/lwmpi from the program), the source tree around a build (.., ../.. from the program). malloc'd; the caller
// frees it. LW_ERR_CONFIG says where it was looked for. Local.
lw_status lw_path_default_config(lw_error *err, char **out);

// The program's own file, through /proc/self/exe. malloc'd. Local.
lw_status lw_path_program(lw_error *err, char **out);

// The folder of an unpacked bundle (cmake/LwBundle.cmake), when the program is that of one: lib/ holds its MPI. NULL
// otherwise. malloc'd. Local.
char *lw_path_bundle(void);

#endif
