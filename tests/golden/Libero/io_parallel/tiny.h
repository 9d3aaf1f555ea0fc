#ifndef TINY_H_
#define TINY_H_

#include <hls/ap_fixpt.hpp>
#include <hls/ap_int.hpp>
#include <hls/streaming.hpp>

#include "defines.h"


// Prototype of top level function for C-synthesis
void tiny(
    hls::FIFO<input_array_t> &port_in_fifo,
    hls::FIFO<result_array_t> &layer3_out_fifo
);


#endif
