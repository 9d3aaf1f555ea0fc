#include <iostream>

#include "branches.h"
#include "parameters.h"


void branches(
    hls::stream<input_t> &port_in, hls::stream<input3_t> &other,
    hls::stream<layer14_t> &layer14_out, hls::stream<layer10_t> &layer10_cpy2, hls::stream<layer10_t> &layer10_cpy3, hls::stream<layer13_t> &layer13_out
) {

    // hls-fpga-machine-learning insert IO
    #pragma HLS INTERFACE axis port=port_in,other,layer14_out,layer10_cpy2,layer10_cpy3,layer13_out 
    #pragma HLS DATAFLOW

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

    hls::stream<layer2_t> layer2_cpy1("layer2_cpy1");
    #pragma HLS STREAM variable=layer2_cpy1 depth=16

    hls::stream<layer2_t> layer2_cpy2("layer2_cpy2");
    #pragma HLS STREAM variable=layer2_cpy2 depth=16

    hls::stream<layer2_t> layer2_cpy3("layer2_cpy3");
    #pragma HLS STREAM variable=layer2_cpy3 depth=16

    hls::stream<layer4_t> layer4_out("layer4_out");
    #pragma HLS STREAM variable=layer4_out depth=4

    hls::stream<layer5_t> layer5_out("layer5_out");
    #pragma HLS STREAM variable=layer5_out depth=4

    hls::stream<layer6_t> layer6_out("layer6_out");
    #pragma HLS STREAM variable=layer6_out depth=4

    hls::stream<layer7_t> layer7_out("layer7_out");
    #pragma HLS STREAM variable=layer7_out depth=4

    hls::stream<layer8_t> layer8_out("layer8_out");
    #pragma HLS STREAM variable=layer8_out depth=4

    hls::stream<layer9_t> layer9_out("layer9_out");
    #pragma HLS STREAM variable=layer9_out depth=4

    hls::stream<layer10_t> layer10_cpy1("layer10_cpy1");
    #pragma HLS STREAM variable=layer10_cpy1 depth=4

    hls::stream<layer11_t> layer11_out("layer11_out");
    #pragma HLS STREAM variable=layer11_out depth=4

    hls::stream<layer12_t> layer12_out("layer12_out");
    #pragma HLS STREAM variable=layer12_out depth=2

    nnet::clone_stream<input_t, layer2_t, 32>(port_in, layer2_cpy1, layer2_cpy2, layer2_cpy3); // clone_port

    nnet::pool_codes<layer2_t, layer4_t, config4>(layer2_cpy1, layer4_out); // sumpool_2
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer4_t>(layer4_out, "sumpool_2", 2*2*2);
#endif

    nnet::merge_codes<layer5_t, config5>(layer5_out, layer4_out, other); // merge_4
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer5_t>(layer5_out, "merge_4", 2*2*2);
#endif

    nnet::map_codes<layer5_t, layer6_t, config6>(layer5_out, layer6_out); // leaky_relu_5
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer6_t>(layer6_out, "leaky_relu_5", 2*2*2);
#endif

    nnet::pooling2d_cl<layer2_t, layer7_t, config7>(layer2_cpy2, layer7_out); // maxpool_6
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer7_t>(layer7_out, "maxpool_6", 2*2*2);
#endif

    nnet::gather_codes<layer8_t, config8>(layer8_out, layer7_out, layer6_out); // gather_7
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer8_t>(layer8_out, "gather_7", 2*2*4);
#endif

    nnet::map_codes<layer8_t, layer9_t, config9>(layer8_out, layer9_out); // requantize_8
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer9_t>(layer9_out, "requantize_8", 2*2*4);
#endif

    nnet::clone_stream<layer9_t, layer10_t, 16>(layer9_out, layer10_cpy1, layer10_cpy2, layer10_cpy3); // clone_requantize_8

    nnet::map_codes<layer10_t, layer11_t, config11>(layer10_cpy1, layer11_out); // lookup_9
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer11_t>(layer11_out, "lookup_9", 2*2*4);
#endif

    nnet::copy_codes<layer11_t, layer12_t, 16, 4>(layer11_out, layer12_out); // reshape_10

    nnet::softmax_codes<layer12_t, layer13_t, config13>(layer12_out, layer13_out); // softmax_11
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer13_t>(layer13_out, "softmax_11", 2*8);
#endif

    nnet::copy_codes<layer2_t, layer14_t, 32, 2>(layer2_cpy3, layer14_out); // port_port

}

