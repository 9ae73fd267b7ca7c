// One vCPU of KVM, set up for nothing but 64-bit user mode under tables that the monitor owns: its
// registers in and out, its floating point state, running it, and making it stop from elsewhere. It
// knows neither the guest's tables nor why it stops.
//
// Stopping: the run thread keeps one real-time signal blocked except inside KVM_RUN, and takes it
// off the queue afterwards; no handler is installed and no disposition of the process changes.
#pragma once

#include <linux/kvm.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <expected>
#include <string>

#include "cpu/fpu_state.h"
#include "kvm/kvm_vm.h"

namespace node_mesh {

class Vcpu {
 public:
  template <class T>
  using Result = std::expected<T, std::string>;

  static Result<Vcpu> create(const KvmVm& vm);
  Vcpu(Vcpu&& other) noexcept;
  Vcpu& operator=(Vcpu&&) = delete;
  ~Vcpu();

  // What every entry starts from: control registers, descriptor tables, SYSCALL's entry.
  Result<void> set_base(const kvm_sregs& sregs, std::uint64_t syscall_entry);

  // The registers of the next entry and, after run(), of the last exit. All of them are loaded.
  kvm_regs& regs() { return *regs_; }
  kvm_sregs& sregs() { return *sregs_; }

  enum class Exit : std::uint8_t { port, interrupted, other, failed };
  struct Outcome {
    Exit exit = Exit::other;
    std::uint16_t port = 0;
    std::uint32_t reason = 0;  // KVM's, for messages
    int error = 0;
  };
  // On the thread that called use_this_thread().
  Outcome run();

  // After an interrupted run: KVM has yet to deliver an exception into the vCPU.
  Result<bool> exception_is_on_its_way() const;

  Result<void> load_fpu(const FpuState& fpu);
  Result<void> store_fpu(FpuState& fpu) const;

  // The thread that will call run().
  Result<void> use_this_thread();
  // From any thread or signal handler: the current run(), or the next one, ends.
  void interrupt();

 private:
  explicit Vcpu(KvmHandle handle) : handle_(std::move(handle)) {}
  void forget_signal();

  KvmHandle handle_;
  kvm_run* run_ = nullptr;
  std::size_t run_bytes_ = 0;
  bool sync_ = false;  // registers travel in the shared page
  kvm_regs own_regs_{};
  kvm_sregs own_sregs_{};
  kvm_regs* regs_ = nullptr;
  kvm_sregs* sregs_ = nullptr;
  std::atomic<pid_t> thread_ = 0;
};

}  // namespace node_mesh
