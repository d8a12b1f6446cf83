#include "device.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

namespace cgckit::cuda {

struct DeviceScope::Guard {
  torch::stable::accelerator::DeviceGuard guard;
};

DeviceScope::DeviceScope(const torch::stable::Tensor& tensor) : stream_(nullptr) {
  const int32_t device = tensor.get_device_index();
  guard_.reset(new Guard{torch::stable::accelerator::DeviceGuard(device)});
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream_));
}

DeviceScope::~DeviceScope() = default;

}  // namespace cgckit::cuda
