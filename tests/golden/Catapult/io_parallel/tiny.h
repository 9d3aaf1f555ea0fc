#ifndef TINY_H_
#define TINY_H_

#include <ac_channel.h>
#include <ac_fixed.h>
#include <ac_int.h>

#include "defines.h"

// Prototype of top level function for C-synthesis
void tiny(
    input_t port_in[4*4*1] /* reshape */,
    result_t layer4_out[2] /* partition */
);

#endif
