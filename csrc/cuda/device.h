// The device and the stream that a call belongs to.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <memory>

namespace cgckit::cuda {

// Makes the device of `tensor` the current one for its own lifetime.
class DeviceScope {
 public:
  explicit DeviceScope(const torch::stable::Tensor& tensor);
  ~DeviceScope();
  void* stream() const { return stream_; }  // torch's current one there, a cudaStream_t

 private:
  struct Guard;
  std::unique_ptr<Guard> guard_;
  void* stream_;
};

}  // namespace cgckit::cuda
