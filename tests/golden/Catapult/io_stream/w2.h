//Numpy array shape [2, 2, 1, 2]
//Min -8.000000000000
//Max 8.000000000000
//Number of zeros 2

#ifndef W2_H_
#define W2_H_

#ifndef __SYNTHESIS__
// global extern pointer only - actual array allocated in myproject_test.cpp
extern conv_1_weight_t w2[8];
#else
conv_1_weight_t w2[8] = {8, -1, 4, -8, 0, -8, 0, -1};
#endif

#endif
