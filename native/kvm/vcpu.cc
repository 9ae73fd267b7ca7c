#include "kvm/vcpu.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "cpu/stub/stub.h"
#include "machine/cpu_model.h"

namespace node_mesh {
namespace {

// The kernel's structures with flexible arrays have another size in C++, and the size is part of
// the request's number: these have the size that C gives them.
struct CpuidHeader {
  __u32 nent = 0, padding = 0;
};
struct CpuidTable {
  CpuidHeader header;
  std::array<kvm_cpuid_entry2, 48> entries{};
};
struct MsrHeader {
  __u32 nmsrs = 0, padding = 0;
};
struct MsrTable {
  MsrHeader header;
  std::array<kvm_msr_entry, 4> entries{};
};
struct alignas(64) XsaveArea {
  std::array<unsigned char, 4096> bytes{};
};
struct SignalMask {
  __u32 bytes = 8;
  unsigned char set[8] = {};
};
static_assert(sizeof(CpuidHeader) == 8 && sizeof(MsrHeader) == 8 && sizeof(XsaveArea) == 4096);
constexpr unsigned long set_cpuid2 = _IOW(KVMIO, 0x90, CpuidHeader);
constexpr unsigned long set_msrs = _IOW(KVMIO, 0x89, MsrHeader);
constexpr unsigned long get_xsave = _IOR(KVMIO, 0xa4, XsaveArea);
constexpr unsigned long set_xsave = _IOW(KVMIO, 0xa5, XsaveArea);
struct SignalMaskHeader {
  __u32 bytes;
};
constexpr unsigned long set_signal_mask = _IOW(KVMIO, 0x8b, SignalMaskHeader);

constexpr std::uint32_t msr_star = 0xc0000081, msr_lstar = 0xc0000082, msr_sfmask = 0xc0000084;
constexpr std::uint64_t flags_cleared_by_syscall = 0x47700;

constexpr std::size_t xmm_at = 160, mxcsr_at = 24, mxcsr_mask_at = 28, xstate_bv_at = 512;

int stop_signal() { return SIGRTMIN + 3; }

void add_leaf(CpuidTable& table, std::uint32_t leaf, std::uint32_t subleaf, bool indexed) {
  const Bus::CpuidResult value = mesh_v1_cpuid(leaf, subleaf, true);
  kvm_cpuid_entry2& entry = table.entries[table.header.nent++];
  entry.function = leaf;
  entry.index = subleaf;
  entry.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
  entry.eax = value.eax;
  entry.ebx = value.ebx;
  entry.ecx = value.ecx;
  entry.edx = value.edx;
}

CpuidTable cpu_model_table() {
  CpuidTable table;
  for (std::uint32_t leaf = 0; leaf <= 0x16; ++leaf) {
    if (leaf == 4) {
      for (std::uint32_t subleaf = 0; subleaf < 4; ++subleaf)
        add_leaf(table, leaf, subleaf, true);
    } else {
      add_leaf(table, leaf, 0, leaf == 7);
    }
  }
  for (std::uint32_t leaf = 0x80000000; leaf <= 0x80000008; ++leaf)
    add_leaf(table, leaf, 0, false);
  return table;
}

}  // namespace

Vcpu::Result<Vcpu> Vcpu::create(const KvmVm& vm) {
  auto handle = vm.vm().make("KVM_CREATE_VCPU", KVM_CREATE_VCPU, 0);
  if (!handle) return std::unexpected(handle.error());
  Vcpu vcpu(std::move(*handle));
  auto size = vm.device().call("KVM_GET_VCPU_MMAP_SIZE", KVM_GET_VCPU_MMAP_SIZE);
  if (!size) return std::unexpected(size.error());
  vcpu.run_bytes_ = static_cast<std::size_t>(*size);
  void* at =
      ::mmap(nullptr, vcpu.run_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.handle_.fd(), 0);
  if (at == MAP_FAILED) {
    return std::unexpected(std::string("mapping the vCPU: ") + std::strerror(errno));
  }
  vcpu.run_ = static_cast<kvm_run*>(at);
  constexpr int wanted = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  vcpu.sync_ = (vm.extension(KVM_CAP_SYNC_REGS) & wanted) == wanted;
  CpuidTable model = cpu_model_table();
  if (auto done = vcpu.handle_.call("KVM_SET_CPUID2", set_cpuid2, &model); !done) {
    return std::unexpected(done.error());
  }
  if (vcpu.sync_) {
    vcpu.regs_ = &vcpu.run_->s.regs.regs;
    vcpu.sregs_ = &vcpu.run_->s.regs.sregs;
  }
  return vcpu;
}

Vcpu::Vcpu(Vcpu&& other) noexcept
    : handle_(std::move(other.handle_)),
      run_(std::exchange(other.run_, nullptr)),
      run_bytes_(other.run_bytes_),
      sync_(other.sync_),
      own_regs_(other.own_regs_),
      own_sregs_(other.own_sregs_),
      regs_(other.sync_ ? other.regs_ : &own_regs_),
      sregs_(other.sync_ ? other.sregs_ : &own_sregs_),
      thread_(other.thread_.load()) {}

Vcpu::~Vcpu() {
  if (run_ != nullptr) ::munmap(run_, run_bytes_);
}

Vcpu::Result<void> Vcpu::set_base(const kvm_sregs& sregs, std::uint64_t syscall_entry) {
  kvm_sregs value = sregs;
  if (auto done = handle_.call("KVM_SET_SREGS", KVM_SET_SREGS, &value); !done) {
    return std::unexpected(done.error());
  }
  MsrTable msrs;
  msrs.header.nmsrs = 3;
  msrs.entries[0] = {msr_star, 0, std::uint64_t{0x10} << 32};
  msrs.entries[1] = {msr_lstar, 0, syscall_entry};
  msrs.entries[2] = {msr_sfmask, 0, flags_cleared_by_syscall};
  auto set = handle_.call("KVM_SET_MSRS", set_msrs, &msrs);
  if (!set) return std::unexpected(set.error());
  if (*set != 3) return std::unexpected("KVM_SET_MSRS: the entry of SYSCALL was refused");
  *regs_ = {};
  *sregs_ = sregs;
  if (sync_) run_->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  return {};
}

Vcpu::Outcome Vcpu::run() {
  Outcome outcome;
  if (sync_) {
    run_->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  } else {
    if (!handle_.call("KVM_SET_SREGS", KVM_SET_SREGS, sregs_) ||
        !handle_.call("KVM_SET_REGS", KVM_SET_REGS, regs_)) {
      outcome.exit = Exit::failed;
      outcome.error = EIO;
      return outcome;
    }
  }
  const int error = handle_.run();
  // Cleared before the signal is taken: a request in between is seen at the next entry.
  if (run_->immediate_exit != 0 || error == EINTR) {
    __atomic_store_n(&run_->immediate_exit, std::uint8_t{0}, __ATOMIC_SEQ_CST);
    forget_signal();
  }
  if (!sync_ && (error == 0 || error == EINTR)) {
    if (!handle_.call("KVM_GET_REGS", KVM_GET_REGS, regs_) ||
        !handle_.call("KVM_GET_SREGS", KVM_GET_SREGS, sregs_)) {
      outcome.exit = Exit::failed;
      outcome.error = EIO;
      return outcome;
    }
  }
  if (error == EINTR || error == EAGAIN) {
    outcome.exit = Exit::interrupted;
  } else if (error != 0) {
    outcome.exit = Exit::failed;
    outcome.error = error;
  } else {
    outcome.reason = run_->exit_reason;
    if (run_->exit_reason == KVM_EXIT_IO && run_->io.direction == KVM_EXIT_IO_OUT) {
      outcome.exit = Exit::port;
      outcome.port = run_->io.port;
    } else if (run_->exit_reason == KVM_EXIT_INTR) {
      outcome.exit = Exit::interrupted;
    }
  }
  return outcome;
}

Vcpu::Result<bool> Vcpu::exception_is_on_its_way() const {
  kvm_vcpu_events events{};
  auto done = handle_.call("KVM_GET_VCPU_EVENTS", KVM_GET_VCPU_EVENTS, &events);
  if (!done) return std::unexpected(done.error());
  return events.exception.injected != 0 || events.exception.pending != 0;
}

Vcpu::Result<void> Vcpu::load_fpu(const FpuState& fpu) {
  XsaveArea area;
  std::memcpy(area.bytes.data(), fpu.x87.data(), xmm_at);
  constexpr std::uint32_t mxcsr_mask = 0xffff;
  std::memcpy(area.bytes.data() + mxcsr_at, &fpu.mxcsr, sizeof fpu.mxcsr);
  std::memcpy(area.bytes.data() + mxcsr_mask_at, &mxcsr_mask, sizeof mxcsr_mask);
  std::memcpy(area.bytes.data() + xmm_at, fpu.xmm.data(), sizeof fpu.xmm);
  // Both components are there, initial or not: what is left out would keep the vCPU's old value.
  const std::uint64_t components = 3;
  std::memcpy(area.bytes.data() + xstate_bv_at, &components, sizeof components);
  auto done = handle_.call("KVM_SET_XSAVE", set_xsave, &area);
  if (!done) return std::unexpected(done.error());
  return {};
}

Vcpu::Result<void> Vcpu::store_fpu(FpuState& fpu) const {
  XsaveArea area;
  auto done = handle_.call("KVM_GET_XSAVE", get_xsave, &area);
  if (!done) return std::unexpected(done.error());
  std::uint64_t components = 0;
  std::memcpy(&components, area.bytes.data() + xstate_bv_at, sizeof components);
  std::memcpy(&fpu.mxcsr, area.bytes.data() + mxcsr_at, sizeof fpu.mxcsr);
  if (components & 1) {
    std::memcpy(fpu.x87.data(), area.bytes.data(), xmm_at);
    x87_make_canonical(fpu);
  } else {
    x87_power_on(fpu);
  }
  if (components & 2) {
    std::memcpy(fpu.xmm.data(), area.bytes.data() + xmm_at, sizeof fpu.xmm);
  } else {
    fpu.xmm = {};
  }
  return {};
}

Vcpu::Result<void> Vcpu::use_this_thread() {
  const auto self = static_cast<pid_t>(::syscall(SYS_gettid));
  if (thread_.load() == self) return {};
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, stop_signal());
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &blocked, &before); error != 0) {
    return std::unexpected(std::string("blocking a signal: ") + std::strerror(error));
  }
  sigdelset(&before, stop_signal());
  struct {
    SignalMask mask;
  } argument;
  std::memcpy(argument.mask.set, &before, sizeof argument.mask.set);
  auto done = handle_.call("KVM_SET_SIGNAL_MASK", set_signal_mask, &argument);
  if (!done) return std::unexpected(done.error());
  thread_ = self;
  return {};
}

void Vcpu::interrupt() {
  const pid_t thread = thread_.load();
  if (thread == 0 || run_ == nullptr) return;
  __atomic_store_n(&run_->immediate_exit, std::uint8_t{1}, __ATOMIC_SEQ_CST);
  ::syscall(SYS_tgkill, ::getpid(), thread, stop_signal());
}

void Vcpu::forget_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, stop_signal());
  const timespec at_once{};
  while (::sigtimedwait(&set, nullptr, &at_once) > 0) {
  }
}

}  // namespace node_mesh
