// A file descriptor of KVM (the device, a virtual machine, a vCPU) and its ioctls, each of them
// checked: the error names the request and what the host said. Owns the descriptor, knows nothing
// of what the requests mean.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

namespace node_mesh {

class KvmHandle {
 public:
  template <class T>
  using Result = std::expected<T, std::string>;

  KvmHandle() = default;
  KvmHandle(KvmHandle&& other) noexcept;
  KvmHandle& operator=(KvmHandle&& other) noexcept;
  ~KvmHandle();

  static Result<KvmHandle> open_device();

  // `name` is the request's name, for the error.
  Result<int> call(const char* name, unsigned long request, unsigned long argument = 0) const;
  Result<int> call(const char* name, unsigned long request, void* argument) const {
    return call(name, request, reinterpret_cast<unsigned long>(argument));
  }
  // A request whose result is another descriptor.
  Result<KvmHandle> make(const char* name, unsigned long request, unsigned long argument = 0) const;
  // KVM_RUN: 0 or errno, without making a string of it.
  int run() const;

  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

  // For tests: the request that is made after `count` others fails with EIO (0: the next one). All
  // handles of the process count together; a negative number switches it off.
  static void fail_after(int count);
  static bool failure_was_injected();

 private:
  explicit KvmHandle(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace node_mesh
