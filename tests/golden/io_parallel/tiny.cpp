#include <iostream>

#include "tiny.h"
#include "parameters.h"


void tiny(
    input_t port_in[4*4*1],
    result_t layer4_out[2]
) {

    // hls-fpga-machine-learning insert IO
    #pragma HLS ARRAY_RESHAPE variable=port_in complete dim=0
    #pragma HLS ARRAY_PARTITION variable=layer4_out complete dim=0
    #pragma HLS INTERFACE ap_vld port=port_in,layer4_out 
    #pragma HLS DATAFLOW

    // hls-fpga-machine-learning insert load weights
#ifndef __SYNTHESIS__
    static bool loaded_weights = false;
    if (!loaded_weights) {
        nnet::load_weights_from_txt<conv_1_weight_t, 8>(w2, "w2.txt");
        nnet::load_weights_from_txt<conv_1_bias_t, 2>(b2, "b2.txt");
        nnet::load_weights_from_txt<dense_5_weight_t, 36>(w4, "w4.txt");
        nnet::load_weights_from_txt<dense_5_bias_t, 2>(b4, "b4.txt");
        loaded_weights = true;    }
#endif
    // ****************************************
    // NETWORK INSTANTIATION
    // ****************************************

    // hls-fpga-machine-learning insert layers

    layer2_t layer2_out[3*3*2];
    #pragma HLS ARRAY_PARTITION variable=layer2_out complete dim=0

    auto& layer3_out = layer2_out;
    nnet::conv_2d_cl<input_t, layer2_t, config2>(port_in, layer2_out, w2, b2); // conv_1
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer2_t>(layer2_out, "conv_1", 3*3*2);
#endif

    nnet::dense<layer2_t, result_t, config4>(layer3_out, layer4_out, w4, b4); // dense_5
#ifndef __SYNTHESIS__
    nnet::save_layer_output<result_t>(layer4_out, "dense_5", 2);
#endif

}

