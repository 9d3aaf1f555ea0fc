// Run the kernels of a streamed project side by side, each in its own thread, with the FIFO depths of the project.
//     threads INPUTS OUTPUTS
// INPUTS and OUTPUTS hold int64 codes, ${n_input} and ${n_output} of them a sample, port after port. All samples follow
// each other without a pause. What goes wrong is printed.

static void to_values(const int64_t *codes, size_t size, int frac_bits, double *values) {
    for (size_t i = 0; i < size; i++)
        values[i] = std::ldexp(double(codes[i]), -frac_bits);
}

static void to_codes(const double *values, size_t size, int frac_bits, int64_t *codes) {
    for (size_t i = 0; i < size; i++)
        codes[i] = int64_t(std::ldexp(values[i], frac_bits));
}

int main(int argc, char **argv) {
    std::vector<int64_t> sample(${n_input}), results;
    std::vector<double> real(${n_largest});
    ${ports}
    std::FILE *inputs = std::fopen(argv[1], "rb");
    while (std::fread(sample.data(), sizeof(int64_t), sample.size(), inputs) == sample.size()) {
        ${inputs}
        threads::samples++;
    }
    std::fclose(inputs);
    ${top}(${arguments});
    for (size_t i = 0; i < threads::samples; i++) {
        results.resize(results.size() + ${n_output});
        int64_t *codes = results.data() + results.size() - ${n_output};
        ${outputs}
    }
    std::FILE *outputs = std::fopen(argv[2], "wb");
    const size_t written = std::fwrite(results.data(), sizeof(int64_t), results.size(), outputs);
    return std::fclose(outputs) != 0 || written != results.size();
}
