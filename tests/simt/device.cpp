// The host instead of a device: there is nothing to choose.
#include "../../csrc/cuda/device.h"

namespace cgckit::cuda {

struct DeviceScope::Guard {};
DeviceScope::DeviceScope(const torch::stable::Tensor&) : stream_(nullptr) {}
DeviceScope::~DeviceScope() = default;

}  // namespace cgckit::cuda
