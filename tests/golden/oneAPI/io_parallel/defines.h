#ifndef DEFINES_H_
#define DEFINES_H_

#include <sycl/ext/intel/ac_types/ac_fixed.hpp>
#include <sycl/ext/intel/ac_types/ac_int.hpp>
#include <sycl/ext/intel/fpga_extensions.hpp>
#include <sycl/sycl.hpp>

// Include nnet::array - a custom array-like struct, mainly used with io_stream
#include "nnet_utils/nnet_types.h"

// hls-fpga-machine-learning insert numbers

// hls-fpga-machine-learning insert layer-precision
typedef nnet::array<ac_fixed<3,3,false>, 16*1> input_t;
typedef ac_fixed<8,8,true> conv_1_accum_t;
typedef nnet::array<ac_fixed<3,3,false,AC_RND_CONV,AC_SAT>, 18*1> layer2_t;
typedef nnet::array<ac_fixed<5,5,true>, 8*1> w2_t;
typedef nnet::array<ac_fixed<2,2,false>, 2*1> b2_t;
typedef ac_fixed<9,7,true> dense_5_accum_t;
typedef nnet::array<ac_fixed<5,4,true,AC_RND_CONV,AC_SAT>, 2*1> result_t;
typedef nnet::array<ac_fixed<5,3,true>, 36*1> w4_t;
typedef nnet::array<ac_fixed<2,0,false>, 2*1> b4_t;
typedef ac_int<1, false> layer4_index;

#define DIV_ROUNDUP(n, d) ((n + d - 1) / d)
#define MIN(n, d) (n > d ? d : n)
#define MAX(n, d) (n < d ? d : n)

#endif
