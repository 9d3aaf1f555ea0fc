#ifndef DEFINES_H_
#define DEFINES_H_

#include "nnet_utils/nnet_types.h"
#include <cstddef>
#include <cstdio>
#include <hls/ap_fixpt.hpp>
#include <hls/ap_int.hpp>
#include <hls/streaming.hpp>


// hls-fpga-machine-learning insert layer-precision
typedef hls::ap_ufixpt<3,3> input_t;
typedef hls::ap_fixpt<9,9> dense_1_accum_t;
typedef hls::ap_ufixpt<3,3,hls::AP_RND_CONV,hls::AP_SAT> layer2_t;
typedef hls::ap_fixpt<5,5> dense_1_weight_t;
typedef hls::ap_ufixpt<1,1> dense_1_bias_t;
typedef hls::ap_fixpt<9,7> dense_4_accum_t;
typedef hls::ap_fixpt<5,4,hls::AP_RND_CONV,hls::AP_SAT> result_t;
typedef hls::ap_fixpt<5,3> dense_4_weight_t;
typedef hls::ap_ufixpt<1,-1> dense_4_bias_t;

// hls-fpga-machine-learning insert struct-definitions
struct input_array_t {
    input_t data[6];
};

struct result_array_t {
    result_t data[2];
};


#endif
