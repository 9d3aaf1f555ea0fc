#ifndef TINY_H_
#define TINY_H_

#include <ac_channel.h>
#include <ac_fixed.h>
#include <ac_int.h>

#include "defines.h"

// Prototype of top level function for C-synthesis
void tiny(
    ac_channel<input_t> &port_in,
    ac_channel<result_t> &layer4_out
);

#endif
