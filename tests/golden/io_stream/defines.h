#ifndef DEFINES_H_
#define DEFINES_H_

#include "ap_fixed.h"
#include "ap_int.h"
#include "nnet_utils/nnet_types.h"
#include <array>
#include <cstddef>
#include <cstdio>
#include <tuple>
#include <tuple>


// hls-fpga-machine-learning insert numbers

// hls-fpga-machine-learning insert layer-precision
typedef nnet::array<ap_ufixed<3,3>, 1*1> input_t;
typedef ap_fixed<8,8> conv_1_accum_t;
typedef nnet::array<ap_ufixed<3,3,AP_RND_CONV,AP_SAT,0>, 2*1> layer2_t;
#include "nnet_utils/nnet_po2.h"
typedef nnet::po2_weight<2, 0> conv_1_weight_t;
typedef ap_ufixed<2,2> conv_1_bias_t;
typedef ap_fixed<9,7> dense_5_accum_t;
typedef nnet::array<ap_fixed<5,4,AP_RND_CONV,AP_SAT,0>, 2*1> result_t;
#include "nnet_utils/nnet_po2.h"
typedef nnet::po2_weight<2, -2> dense_5_weight_t;
typedef ap_ufixed<1,-1> dense_5_bias_t;
typedef ap_uint<1> layer4_index;

// hls-fpga-machine-learning insert emulator-defines


#endif
