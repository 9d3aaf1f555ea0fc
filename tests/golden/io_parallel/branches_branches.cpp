#include <iostream>

#include "branches.h"
#include "parameters.h"


void branches(
    input_t port_in[4*4*2], input2_t other[2*2*2],
    layer12_t layer12_out[4*4*2], layer13_t layer13_out[2*2*4], layer14_t layer14_out[2*2*4], layer11_t layer11_out[2*8]
) {

    // hls-fpga-machine-learning insert IO
    #pragma HLS ARRAY_RESHAPE variable=port_in complete dim=0
    #pragma HLS ARRAY_RESHAPE variable=other complete dim=0
    #pragma HLS ARRAY_PARTITION variable=layer12_out complete dim=0
    #pragma HLS ARRAY_PARTITION variable=layer13_out complete dim=0
    #pragma HLS ARRAY_PARTITION variable=layer14_out complete dim=0
    #pragma HLS ARRAY_PARTITION variable=layer11_out complete dim=0
    #pragma HLS INTERFACE ap_vld port=port_in,other,layer12_out,layer13_out,layer14_out,layer11_out 
    #pragma HLS PIPELINE

    // hls-fpga-machine-learning insert load weights
#ifndef __SYNTHESIS__
    static bool loaded_weights = false;
    if (!loaded_weights) {
        loaded_weights = true;    }
#endif
    // ****************************************
    // NETWORK INSTANTIATION
    // ****************************************

    // hls-fpga-machine-learning insert layers

    layer3_t layer3_out[2*2*2];
    #pragma HLS ARRAY_PARTITION variable=layer3_out complete dim=0

    layer4_t layer4_out[2*2*2];
    #pragma HLS ARRAY_PARTITION variable=layer4_out complete dim=0

    layer5_t layer5_out[2*2*2];
    #pragma HLS ARRAY_PARTITION variable=layer5_out complete dim=0

    layer6_t layer6_out[2*2*2];
    #pragma HLS ARRAY_PARTITION variable=layer6_out complete dim=0

    layer7_t layer7_out[2*2*4];
    #pragma HLS ARRAY_PARTITION variable=layer7_out complete dim=0

    layer8_t layer8_out[2*2*4];
    #pragma HLS ARRAY_PARTITION variable=layer8_out complete dim=0

    layer9_t layer9_out[2*2*4];
    #pragma HLS ARRAY_PARTITION variable=layer9_out complete dim=0

    auto& layer10_out = layer9_out;
    nnet::pool_codes<input_t, layer3_t, config3>(port_in, layer3_out); // sumpool_2
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer3_t>(layer3_out, "sumpool_2", 2*2*2);
#endif

    nnet::merge_codes<layer4_t, config4>(layer4_out, layer3_out, other); // merge_4
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer4_t>(layer4_out, "merge_4", 2*2*2);
#endif

    nnet::map_codes<layer4_t, layer5_t, config5>(layer4_out, layer5_out); // leaky_relu_5
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer5_t>(layer5_out, "leaky_relu_5", 2*2*2);
#endif

    nnet::pooling2d_cl<input_t, layer6_t, config6>(port_in, layer6_out); // maxpool_6
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer6_t>(layer6_out, "maxpool_6", 2*2*2);
#endif

    nnet::gather_codes<layer7_t, config7>(layer7_out, layer6_out, layer5_out); // gather_7
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer7_t>(layer7_out, "gather_7", 2*2*4);
#endif

    nnet::map_codes<layer7_t, layer8_t, config8>(layer7_out, layer8_out); // requantize_8
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer8_t>(layer8_out, "requantize_8", 2*2*4);
#endif

    nnet::map_codes<layer8_t, layer9_t, config9>(layer8_out, layer9_out); // lookup_9
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer9_t>(layer9_out, "lookup_9", 2*2*4);
#endif

    nnet::softmax_codes<layer9_t, layer11_t, config11>(layer10_out, layer11_out); // softmax_11
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer11_t>(layer11_out, "softmax_11", 2*8);
#endif

    nnet::copy_codes<input_t, layer12_t, 32, 2>(port_in, layer12_out); // port_port

    nnet::copy_codes<layer8_t, layer13_t, 16, 4>(layer8_out, layer13_out); // requantize_8_port

    nnet::copy_codes<layer8_t, layer14_t, 16, 4>(layer8_out, layer14_out); // requantize_8_port_0

}

