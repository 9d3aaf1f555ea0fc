#include <iostream>

#include "tiny.h"
#include "parameters.h"


void tiny(
    hls::FIFO<input_array_t> &port_in_fifo,
    hls::FIFO<result_array_t> &layer3_out_fifo
) {
    #pragma HLS function top
    #pragma HLS interface control type(simple)
    #pragma HLS interface argument(port_in_fifo) type(simple)
    #pragma HLS interface argument(layer3_out_fifo) type(simple)
    #pragma HLS function pipeline

    // hls-fpga-machine-learning insert load weights
#ifndef __SYNTHESIS__
    static bool loaded_weights = false;
    if (!loaded_weights) {
        nnet::load_weights_from_txt<dense_1_weight_t, 84>(w2, "w2.txt");
        nnet::load_weights_from_txt<dense_1_bias_t, 14>(b2, "b2.txt");
        nnet::load_weights_from_txt<dense_4_weight_t, 28>(w3, "w3.txt");
        nnet::load_weights_from_txt<dense_4_bias_t, 2>(b3, "b3.txt");
        loaded_weights = true;
    }
#endif
    #pragma HLS memory partition variable(port_in) type(complete) dim(0)
    input_t port_in[6];
    input_array_t port_in_struct = port_in_fifo.read();
    for (unsigned i = 0; i < 6; i++) {
        port_in[i] = port_in_struct.data[i];
    }

    // hls-fpga-machine-learning insert layers

    #pragma HLS memory partition variable(layer2_out) type(complete) dim(0)
    layer2_t layer2_out[14];
    nnet::dense_latency<input_t, layer2_t, config2>(port_in, layer2_out, w2, b2); // dense_1

    #pragma HLS memory partition variable(layer3_out) type(complete) dim(0)
    result_t layer3_out[2];
    nnet::dense_latency<layer2_t, result_t, config3>(layer2_out, layer3_out, w3, b3); // dense_4


    result_array_t layer3_out_struct;
    for (unsigned i = 0; i < 2; i++) {
        layer3_out_struct.data[i] = layer3_out[i];
    }
    layer3_out_fifo.write(layer3_out_struct);
}

