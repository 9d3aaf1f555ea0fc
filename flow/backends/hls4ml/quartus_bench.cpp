// Runs the samples of tb_data/tb_input_features.dat, and writes what every output gives to tb_data/results.log.

#include "firmware/${top}.h"
#include "firmware/parameters.h"

#include "firmware/nnet_utils/nnet_helpers.h"
#include <fstream>
#include <iostream>

#ifndef __INTELFPGA_COMPILER__
namespace nnet {
bool trace_enabled = false;
std::map<std::string, void *> *trace_outputs = NULL;
size_t trace_type_size = sizeof(double);
} // namespace nnet
#endif

int main(int argc, char **argv) {
    std::ifstream samples("tb_data/tb_input_features.dat");
    std::ofstream results("tb_data/results.log");
    float sample[${n_input}];
    float values[${n_largest}];
    while (true) {
        for (unsigned i = 0; i < ${n_input}; i++)
            samples >> sample[i];
        if (!samples)
            break;
        ${call}
        results << std::endl;
    }
    std::cout << "INFO: Saved inference results to file: tb_data/results.log" << std::endl;
    return 0;
}
