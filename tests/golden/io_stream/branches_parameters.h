#ifndef PARAMETERS_H_
#define PARAMETERS_H_

#include "ap_fixed.h"
#include "ap_int.h"

#include "nnet_utils/nnet_code_gen.h"
#include "nnet_utils/nnet_helpers.h"
// hls-fpga-machine-learning insert includes
#include "nnet_utils/nnet_flow.h"
#include "nnet_utils/nnet_pooling.h"
#include "nnet_utils/nnet_pooling_stream.h"
#include "nnet_utils/nnet_stream.h"

// hls-fpga-machine-learning insert weights


// hls-fpga-machine-learning insert layer-config
// sumpool_2
struct config4 {
    static const unsigned n_in = 16;
    static const unsigned n_out = 4;
    static const unsigned n_chan = 2;
    static const unsigned n_row = 4;
    static const unsigned n_step = 16;
    static const unsigned n_target = 4;
    static const int step[16];
    static const int target[64];
    typedef nnet::flow::weighted_sum<config4> operation;
    static const unsigned factor_bits = 5;
    static const int weight[4];
    static const unsigned exact_bits = 10;
    static const int numerator_shift = 1;
    static const int denominator = 36;
    static const int offset = 16;
    static const int reciprocal = 911;
    static const int product_shift = 15;
    static const unsigned numerator_bits = 12;
    static const unsigned reciprocal_bits = 11;
    static const unsigned product_bits = 23;
    static const nnet::flow::rounding_mode rounding = nnet::flow::RND_CONV;
    typedef nnet::flow::divide_cast<config4> cast;
};
const int config4::step[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 1, 1, 3, 3};
const int config4::target[64] = {1, -1, -1, -1, 0, -1, -1, -1, 0, 3, -1, -1, 2, -1, -1, -1, 0, -1, -1, -1, 0, -1, -1, -1, 0, 2, -1, -1, 2, -1, -1, -1, 0, 5, -1, -1, 0, 4, -1, -1, 0, 2, 4, 7, 2, 6, -1, -1, 4, -1, -1, -1, 4, -1, -1, -1, 4, 6, -1, -1, 6, -1, -1, -1};
const int config4::weight[4] = {4, 6, 6, 9};

// merge_4
struct config5 {
    static const unsigned n_elem = 8;
    typedef nnet::flow::subtract operation;
    static const int raise[2];
    static const unsigned exact_bits = 7;
    static const int exact_frac = 2;
    typedef nnet::flow::shift_cast<config5> cast;
};
const int config5::raise[2] = {0, 2};

// leaky_relu_5
struct config6 {
    static const unsigned n_elem = 8;
    typedef nnet::flow::leaky_relu<config6> operation;
    static const int raise = 3;
    static const unsigned n_slope = 1;
    static const unsigned factor_bits = 2;
    static const int slope[1];
    static const unsigned exact_bits = 10;
    static const int exact_frac = 5;
    typedef nnet::flow::shift_cast<config6> cast;
};
const int config6::slope[1] = {1};

// maxpool_6
struct config7 : nnet::pooling2d_config {
    static const unsigned in_height = 4;
    static const unsigned in_width = 4;
    static const unsigned n_filt = 2;
    static const unsigned stride_height = 2;
    static const unsigned stride_width = 2;
    static const unsigned pool_height = 2;
    static const unsigned pool_width = 2;

    static const unsigned filt_height = pool_height;
    static const unsigned filt_width = pool_width;
    static const unsigned n_chan = n_filt;

    static const unsigned out_height = 2;
    static const unsigned out_width = 2;
    static const unsigned pad_top = 0;
    static const unsigned pad_bottom = 0;
    static const unsigned pad_left = 0;
    static const unsigned pad_right = 0;
    static const bool count_pad = false;
    static const nnet::Pool_Op pool_op = nnet::Max;
    static const nnet::conv_implementation implementation = nnet::conv_implementation::linebuffer;
    static const unsigned reuse_factor = 1;
    typedef maxpool_6_accum_t accum_t;
};

// gather_7
struct config8 {
    static const unsigned n_elem = 16;
    static const unsigned n_input = 2;
    static const unsigned n_rows = 5;
    static const unsigned n_column = 2;
    static const unsigned n_step = 6;
    static const int first_row[2];
    static const int n_row[2];
    static const int step[6];
    static const int row[16];
    static const int column[16];
};
const int config8::first_row[2] = {0, 1};
const int config8::n_row[2] = {1, 4};
const int config8::step[6] = {3, 2, 6, 7, 5, 5};
const int config8::row[16] = {0, 0, 3, 3, 0, 0, 4, 4, 0, 0, 1, 1, 0, 0, 2, 2};
const int config8::column[16] = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1};

// requantize_8
struct config9 {
    static const unsigned n_elem = 16;
    typedef nnet::flow::requantize<config9> operation;
    static const unsigned exact_bits = 10;
    static const int exact_frac = 5;
    typedef nnet::flow::shift_cast<config9> cast;
};

// lookup_9
struct config11 {
    static const unsigned n_elem = 16;
    typedef nnet::flow::clamped_table<config11> operation;
    static const int first = 2;
    static const int last = 9;
    static const unsigned shift = 0;
    static const int values[8];
};
const int config11::values[8] = {2, 0, 0, 0, 0, 0, 0, 3};

// softmax_11
struct config13 {
    static const unsigned n_elem = 16;
    static const unsigned n_chan = 8;
    static const unsigned exact_bits = 11;
    static const int frac_bits = 4;
    static const int max_code = 15;
    static const int exponentials[4];
};
const int config13::exponentials[4] = {16, 6, 2, 1};



#endif
