#include "checkpoint/checkpoint_child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "checkpoint/cbor_out.h"
#include "checkpoint/pack_writer.h"
#include "replay/file.h"

namespace node_mesh {
namespace {

constexpr int niceness = 10;  // the guest comes first
// A pack with fewer live pages than one in so many is written anew and can go.
constexpr std::uint32_t sparse_divisor = 2;
// More packs than memory needs, before the emptiest are written anew whatever they hold.
constexpr std::uint64_t spare_packs = 48;
constexpr int kept_directory = 3;
constexpr int kept_release = 4;

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// The parent's sockets, its engine's handles and its log are not this process's to hold.
void keep_two_descriptors(ChildJob& job) {
  const int directory = ::fcntl(job.directory, F_DUPFD, 64);
  const int release = ::fcntl(job.release, F_DUPFD, 64);
  if (directory < 0 || release < 0 || ::dup2(directory, kept_directory) < 0 ||
      ::dup2(release, kept_release) < 0) {
    ::_exit(1);
  }
  ::syscall(SYS_close_range, kept_release + 1, ~0u, 0);
  for (int fd = 0; fd < kept_directory; ++fd)
    ::close(fd);
  job.directory = kept_directory;
  job.release = kept_release;
}

class Child {
 public:
  explicit Child(const ChildJob& job)
      : job_(job), next_(*job.next), packs_(job.directory, *job.next) {}

  [[noreturn]] void run() {
    start_ns_ = now_ns();
    write_pages();
    write_manifest();
    // The copy of the guest's memory costs the host; whoever waits for leave does not need it.
    ::munmap(job_.memory->base(), job_.memory->size_bytes());
    job_.report->work_ns = now_ns() - start_ns_;
    __atomic_store_n(&job_.report->stage, ChildReport::Stage::written, __ATOMIC_RELEASE);
    publish();
    __atomic_store_n(&job_.report->stage, ChildReport::Stage::published, __ATOMIC_RELEASE);
    ::_exit(0);
  }

 private:
  [[noreturn]] void fail(const char* what, int error) {
    std::snprintf(job_.report->error, sizeof job_.report->error, "%s: %s", what,
                  ::strerrordesc_np(error));
    packs_.abandon();
    if (manifest_begun_) ::unlinkat(job_.directory, manifest_new_, 0);
    ::_exit(1);
  }
  void check(const PackWriter::Outcome& outcome, const char* what) {
    if (!outcome) fail(what, outcome.error());
  }

  bool is_ram(std::uint64_t gfn) const {
    return job_.memory->contains(gfn * page_bytes, page_bytes);
  }

  // The packs before this checkpoint, without those that hold nothing any more.
  void take_over_previous() {
    const std::uint64_t page_count = job_.memory->page_count();
    next_.pack_count = job_.previous->pack_count;
    std::copy_n(job_.previous->packs, next_.pack_count, next_.packs);
    std::copy_n(job_.previous->places(), page_count, next_.places());
    count_live();
    choose_sparse();
    std::uint64_t kept = 0;
    for (std::uint64_t pack = 0; pack < next_.pack_count; ++pack) {
      moved_[pack] = static_cast<std::uint32_t>(kept);
      if (next_.packs[pack].live == 0) continue;
      next_.packs[kept++] = next_.packs[pack];
    }
    next_.pack_count = kept;
    for (std::uint64_t gfn = 0; gfn < page_count; ++gfn) {
      PageTable::Place& place = next_.places()[gfn];
      if (job_.candidates[gfn] != 0) place = 0;
      if (place != 0) {
        place = PageTable::place_of(moved_[PageTable::pack_of(place)], PageTable::index_of(place));
      }
    }
  }

  void count_live() {
    for (std::uint64_t pack = 0; pack < next_.pack_count; ++pack)
      next_.packs[pack].live = 0;
    for (std::uint64_t gfn = 0; gfn < job_.memory->page_count(); ++gfn) {
      const PageTable::Place place = next_.places()[gfn];
      if (place != 0 && job_.candidates[gfn] == 0) ++next_.packs[PageTable::pack_of(place)].live;
    }
  }

  void choose_sparse() {
    std::uint64_t live_pages = 0;
    std::uint64_t live_packs = 0;
    for (std::uint64_t pack = 0; pack < next_.pack_count; ++pack) {
      live_pages += next_.packs[pack].live;
      live_packs += next_.packs[pack].live != 0 ? 1 : 0;
    }
    const std::uint64_t most = live_pages / pack_pages_max + spare_packs;
    for (std::uint64_t pack = 0; pack < next_.pack_count; ++pack) {
      PackRecord& record = next_.packs[pack];
      const bool small = live_packs > most && record.live < pack_pages_max / 2;
      if (record.live != 0 && (record.live < record.pages / sparse_divisor || small)) {
        sparse_[pack] = 1;
        record.live = 0;
      }
    }
    for (std::uint64_t gfn = 0; gfn < job_.memory->page_count(); ++gfn) {
      const PageTable::Place place = next_.places()[gfn];
      if (place != 0 && sparse_[PageTable::pack_of(place)] != 0) job_.candidates[gfn] = 1;
    }
  }

  void write_pages() {
    check(packs_.prepare(), "no memory for the writer");
    take_over_previous();
    const std::uint64_t page_count = job_.memory->page_count();
    check(packs_.expect(static_cast<std::uint64_t>(
              std::count_if(job_.candidates.begin(), job_.candidates.end(),
                            [](std::uint8_t flag) { return flag != 0; }))),
          "no memory for the writer");
    for (std::uint64_t gfn = 0; gfn < page_count; ++gfn) {
      if (job_.candidates[gfn] == 0 || !is_ram(gfn) || is_zero(gfn)) continue;
      const auto place = packs_.add(*job_.memory, gfn);
      if (!place) fail("a pack cannot be written", place.error());
      next_.places()[gfn] = *place;
    }
    check(packs_.finish(), "a pack cannot be written");
    for (std::uint64_t gfn = 0; gfn < page_count; ++gfn)
      job_.candidates[gfn] = 0;
    count_live();
    job_.report->pack_bytes = packs_.bytes();
    job_.report->pages = packs_.pages();
  }

  bool is_zero(std::uint64_t gfn) const {
    const std::byte* page = job_.memory->base() + gfn * page_bytes;
    std::uint64_t first = 0;
    std::memcpy(&first, page, sizeof first);
    return first == 0 && std::memcmp(page, page + sizeof first, page_bytes - sizeof first) == 0;
  }

  void write_manifest() {
    const std::size_t page_count = static_cast<std::size_t>(job_.memory->page_count());
    const std::size_t bytes_max = std::min<std::size_t>(
        job_.entries.size() + packs_max * pack_entry_bytes + page_count * 64 + 4096,
        manifest_bytes_max);
    const Mapping whole = Mapping::create(bytes_max, MAP_PRIVATE);
    const Mapping part = Mapping::create(bytes_max, MAP_PRIVATE);
    if (!whole || !part) fail("no memory for the manifest", ENOMEM);
    CborOut out(whole.bytes());
    out.map(job_.entry_count + 3);
    out.raw(job_.entries);
    put_part(out, part, "packs", [&](CborOut& into) { put_packs(into); });
    put_part(out, part, "runs", [&](CborOut& into) { put_runs(into); });
    put_part(out, part, "stale", [&](CborOut& into) { put_stale(into); });
    if (out.full()) fail("the manifest is too large", EFBIG);

    Sha256Stream hash;
    hash.add(out.view());
    job_.report->manifest = hash.finish();
    job_.report->manifest_bytes = out.size();
    std::snprintf(manifest_new_, sizeof manifest_new_, "%.*s%d-m",
                  static_cast<int>(unfinished_prefix.size()), unfinished_prefix.data(),
                  static_cast<int>(::getpid()));
    const int file =
        ::openat(job_.directory, manifest_new_, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) fail("the manifest cannot be written", errno);
    manifest_begun_ = true;
    if (auto wrote = write_all(file, out.view()); !wrote) {
      fail("the manifest cannot be written", wrote.error());
    }
    // The packs' names must be there for good before a manifest speaks of them.
    if (::fsync(file) != 0 || ::fsync(job_.directory) != 0) {
      fail("the manifest cannot be written", errno);
    }
    ::close(file);
  }

  template <class Fill>
  void put_part(CborOut& out, const Mapping& part, std::string_view key, Fill fill) {
    CborOut into(part.bytes());
    fill(into);
    if (into.full()) fail("the manifest is too large", EFBIG);
    out.text(key);
    out.bytes(into.view());
  }

  void put_packs(CborOut& into) const {
    for (std::uint64_t pack = 0; pack < next_.pack_count; ++pack) {
      const PackRecord& record = next_.packs[pack];
      into.raw(std::as_bytes(std::span(record.name)));
      into.little_endian(record.bytes, 8);
      into.little_endian(record.pages, 4);
    }
  }

  void put_runs(CborOut& into) const {
    const std::uint64_t page_count = job_.memory->page_count();
    const PageTable::Place* places = next_.places();
    std::uint64_t previous_end = 0;
    for (std::uint64_t gfn = 0; gfn < page_count;) {
      const PageTable::Place place = places[gfn];
      if (place == 0) {
        ++gfn;
        continue;
      }
      const std::size_t pack = PageTable::pack_of(place);
      std::uint32_t count = 1;
      while (gfn + count < page_count && places[gfn + count] == place + count &&
             PageTable::pack_of(place + count) == pack) {
        ++count;
      }
      into.varint(gfn - previous_end);
      into.varint(count);
      into.varint(pack);
      into.varint(PageTable::index_of(place));
      gfn += count;
      previous_end = gfn;
    }
  }

  void put_stale(CborOut& into) const {
    std::uint64_t after = 0;
    for (std::uint64_t gfn = 0; gfn < job_.memory->page_count(); ++gfn) {
      if (!job_.memory->dirty_for_digest(gfn) || !is_ram(gfn)) continue;
      into.varint(gfn - after);
      into.little_endian(job_.digest->hash_of(gfn), 8);
      after = gfn + 1;
    }
  }

  void publish() {
    std::uint64_t leave = 0;
    while (::read(job_.release, &leave, sizeof leave) < 0) {
      if (errno != EINTR) fail("its leave cannot be waited for", errno);
    }
    const FileName name(job_.report->manifest, manifest_suffix);
    if (::renameat(job_.directory, manifest_new_, job_.directory, name.text) != 0 ||
        ::fsync(job_.directory) != 0) {
      fail("the manifest cannot be written", errno);
    }
  }

  const ChildJob& job_;
  PageTable& next_;
  PackWriter packs_;
  std::uint64_t start_ns_ = 0;
  char manifest_new_[64] = {};
  bool manifest_begun_ = false;
  std::uint32_t moved_[packs_max] = {};
  std::uint8_t sparse_[packs_max] = {};
};

}  // namespace

void run_checkpoint_child(const ChildJob& given) {
  ChildJob job = given;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != job.parent) ::_exit(1);
  keep_two_descriptors(job);
  ::setpriority(PRIO_PROCESS, 0, niceness);
  Child child(job);
  child.run();
}

}  // namespace node_mesh
