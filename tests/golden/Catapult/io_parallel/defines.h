#ifndef DEFINES_H_
#define DEFINES_H_

#include "nnet_utils/nnet_types.h"
#include <ac_channel.h>
#include <ac_fixed.h>
#include <ac_int.h>
#include <cstddef>
#include <cstdio>

// hls-fpga-machine-learning insert numbers

// hls-fpga-machine-learning insert layer-precision
typedef ac_fixed<3,3,false> input_t;
typedef ac_fixed<8,8,true> conv_1_accum_t;
typedef ac_fixed<3,3,false,AC_RND_CONV,AC_SAT> layer2_t;
typedef ac_fixed<5,5,true> conv_1_weight_t;
typedef ac_fixed<2,2,false> conv_1_bias_t;
typedef ac_fixed<9,7,true> dense_5_accum_t;
typedef ac_fixed<5,4,true,AC_RND_CONV,AC_SAT> result_t;
typedef ac_fixed<5,3,true> dense_5_weight_t;
typedef ac_fixed<2,0,false> dense_5_bias_t;
typedef ac_int<1, false> layer4_index;

#endif
