// install.h: finds the files that come with lwmpi. No absolute path is compiled in: an installed tree can be moved.
#ifndef LW_INSTALL_H
#define LW_INSTALL_H

#include "core/status.h"

// The embedded default, configs/tiny.cfg, in the first of these that has it: $LWMPI_DATADIR, the installed data folder
// (../share/lwmpi from the program), the source tree around a build (.., ../.. from the program). malloc'd; the caller
// frees it. The text of LW_ERR_CONFIG names the places that were tried. Local.
lw_status lw_path_default_config(lw_error *err, char **out);

// The program's own file, through /proc/self/exe. malloc'd. Local.
lw_status lw_path_program(lw_error *err, char **out);

// The folder of an unpacked bundle (cmake/LwBundle.cmake), when the program runs from one: lib/ holds its MPI. NULL
// otherwise. malloc'd. Local.
char *lw_path_bundle(void);

#endif
