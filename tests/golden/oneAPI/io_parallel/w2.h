//Numpy array shape [2, 2, 1, 2]
//Min -8.000000000000
//Max 8.000000000000
//Number of zeros 2

#ifndef W2_H_
#define W2_H_

[[intel::fpga_register]] static constexpr w2_t w2 = {{8, 4, 0, 0, -1, -8, -8, -1}};

#endif
