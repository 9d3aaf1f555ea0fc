#include <iostream>

#include "tiny.h"
#include "parameters.h"

#include <mc_scverify.h>

#pragma hls_design top
// hls-fpga-machine-learning insert IFSynPragmas
#pragma hls_resource port_in:rsc variables="port_in" map_to_module="ccs_ioport.ccs_in_wait"
#pragma hls_resource layer4_out:rsc variables="layer4_out" map_to_module="ccs_ioport.ccs_out_wait"
void CCS_BLOCK(tiny)(
    ac_channel<input_t> &port_in,
    ac_channel<result_t> &layer4_out
) {

    // hls-fpga-machine-learning insert IO
    // #pragma HLS INTERFACE axis port=port_in,layer4_out 
    // #pragma HLS DATAFLOW 

#ifndef __SYNTHESIS__
    static bool loaded_weights = false;
    if (!loaded_weights) {
        // hls-fpga-machine-learning insert load weights
        nnet::load_weights_from_txt<conv_1_weight_t, 8>(w2, "w2.txt");
        nnet::load_weights_from_txt<conv_1_bias_t, 2>(b2, "b2.txt");
        nnet::load_weights_from_txt<dense_5_weight_t, 36>(w4, "w4.txt");
        nnet::load_weights_from_txt<dense_5_bias_t, 2>(b4, "b4.txt");
        loaded_weights = true;
    }
#endif

    // ****************************************
    // NETWORK INSTANTIATION
    // ****************************************

    // hls-fpga-machine-learning insert layers

    
    static ac_channel<layer2_t> layer2_out/*("layer2_out")*/; 
    
    nnet::conv_2d_cl<input_t, layer2_t, config2>(port_in, layer2_out, w2, b2); // conv_1
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer2_t>(layer2_out, "conv_1", 3*3*2);
#endif

    static auto& layer3_out = layer2_out; 
    nnet::dense<layer2_t, result_t, config4>(layer3_out, layer4_out, w4, b4); // dense_5
#ifndef __SYNTHESIS__
    nnet::save_layer_output<result_t>(layer4_out, "dense_5", 2);
#endif

}
