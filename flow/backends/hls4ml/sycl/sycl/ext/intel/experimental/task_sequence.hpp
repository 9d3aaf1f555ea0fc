#include "sycl/sycl.hpp"
