#include "tiny.h"
#include "parameters.h"
#include <sycl/ext/intel/experimental/task_sequence.hpp>

// hls-fpga-machine-learning insert weights
#include "weights/w2.h"
#include "weights/b2.h"
#include "weights/w4.h"
#include "weights/b4.h"

// The inter-task pipes need to be declared in the global scope
// hls-fpga-machine-learning insert inter-task pipes

using sycl::ext::intel::experimental::task_sequence;

void Tiny::operator()() const {
    // ****************************************
    // NETWORK INSTANTIATION
    // ****************************************

    // hls-fpga-machine-learning read in
    auto port_in = PortInPipe::read();

    // hls-fpga-machine-learning declare task sequences

    // hls-fpga-machine-learning insert layers

    [[intel::fpga_register]] layer2_t layer2_out;
    nnet::conv_2d_cl<input_t, layer2_t, config2>(port_in, layer2_out, w2, b2); // conv_1
    auto& layer3_out = layer2_out;
    [[intel::fpga_register]] result_t layer4_out;
    nnet::dense_resource<layer2_t, result_t, config4>(layer3_out, layer4_out, w4, b4); // dense_5

    // hls-fpga-machine-learning return
    Layer4OutPipe::write(layer4_out);
}
