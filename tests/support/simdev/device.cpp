// A simulated accelerator for tests: results are computed at once on the CPU, but time passes on a virtual device.
//
// Each stream has a "tail": the moment at which all that was put on it will be done. A kernel moves the tail on from
// max(now, tail) by its duration. So kernels queue as on a GPU, nothing runs in parallel, and every device time is known
// in advance. An event is the tail at the moment it was recorded; the device's clock may be offset, drift and tick.
#include <ATen/core/GraphImplInterface.h>
#include <ATen/core/op_registration/adaption.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

namespace {
constexpr auto kSim = c10::DeviceType::PrivateUse1;
constexpr int kStreams = 64;

std::mutex lock_;
int64_t tails[kStreams] = {};
std::atomic<int64_t> op_ns{0}, syncs{0}, records{0}, queries{0}, kernels{0}, live_events{0};
std::atomic<int64_t> next_stream{1};
std::atomic<bool> capturing{false}, killed{false};  // a capture, by a question as CUDA's
std::atomic<double> drift_ppm{0};
std::atomic<int64_t> tick_ns{1};
thread_local int64_t current = 0;
thread_local bool inside = false;

int64_t now_ns() {  // the clock of time.perf_counter_ns() on Linux
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}
void wait_until(int64_t t) {
  auto left = t - now_ns();
  if (left > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(left));
}
void launch(int64_t stream, int64_t ns) {
  std::lock_guard<std::mutex> guard(lock_);
  kernels++;
  tails[stream] = std::max(tails[stream], now_ns()) + ns;
}
int64_t tail(int64_t stream) {
  std::lock_guard<std::mutex> guard(lock_);
  return std::max(tails[stream], now_ns());
}
int64_t device_clock(int64_t host) {
  auto t = static_cast<int64_t>(host * (1 + drift_ppm.load() * 1e-6));
  return t / tick_ns * tick_ns;
}
void sync_stream(int64_t stream) { syncs++; wait_until(tail(stream)); }
void sync_all() {
  syncs++;
  int64_t last = 0;
  { std::lock_guard<std::mutex> guard(lock_); for (auto t : tails) last = std::max(last, t); }
  wait_until(last);
}

struct SimEvent { int64_t at = 0; bool timing = false; bool captured = false; };

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kSim; }
  c10::Device exchangeDevice(c10::Device) const override { return {kSim, 0}; }
  c10::Device getDevice() const override { return {kSim, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  static c10::Stream stream(int64_t id) { return c10::Stream(c10::Stream::UNSAFE, {kSim, 0}, id); }
  c10::Stream getStream(c10::Device) const override { return stream(current); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(0); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(next_stream++ % kStreams); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream(next_stream++ % kStreams); }
  c10::Stream exchangeStream(c10::Stream s) const override { auto was = current; current = s.id(); return stream(was); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void destroyEvent(void* e, const c10::DeviceIndex) const noexcept override {
    if (e) live_events--;
    delete static_cast<SimEvent*>(e);
  }
  void record(void** e, const c10::Stream& s, const c10::DeviceIndex, const c10::EventFlag flag) const override {
    if (!*e) { *e = new SimEvent; live_events++; }
    auto& event = *static_cast<SimEvent*>(*e);
    records++;
    event.timing = flag == c10::EventFlag::BACKEND_DEFAULT;
    event.captured = capturing;
    event.at = tail(s.id());
  }
  void block(void* e, const c10::Stream& s) const override {
    std::lock_guard<std::mutex> guard(lock_);
    tails[s.id()] = std::max(tails[s.id()], static_cast<SimEvent*>(e)->at);
  }
  bool queryEvent(void* e) const override {
    queries++;
    if (capturing) killed = true;
    if (!e) return true;
    auto& event = *static_cast<SimEvent*>(e);
    TORCH_CHECK(!event.captured, "simdev: an event recorded in a capture was queried");
    return now_ns() >= event.at;
  }
  bool queryStream(const c10::Stream& s) const override { return now_ns() >= tails[s.id()]; }
  void synchronizeStream(const c10::Stream& s) const override { sync_stream(s.id()); }
  void synchronizeEvent(void* e) const override { syncs++; wait_until(static_cast<SimEvent*>(e)->at); }
  void synchronizeDevice(const c10::DeviceIndex) const override { sync_all(); }
  bool isStreamCapturing(const c10::Stream&) const override { return capturing; }
  double elapsedTime(void* a, void* b, const c10::DeviceIndex) const override {
    if (capturing) killed = true;
    TORCH_CHECK(a && b, "simdev: an event was not recorded");
    auto &x = *static_cast<SimEvent*>(a), &y = *static_cast<SimEvent*>(b);
    TORCH_CHECK(x.timing && y.timing, "simdev: events without timing");
    TORCH_CHECK(!x.captured && !y.captured, "simdev: captured event");
    TORCH_CHECK(now_ns() >= std::max(x.at, y.at), "simdev: event not ready");
    return (device_clock(y.at) - device_clock(x.at)) / 1e6;
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

void begin_capture() {
  killed = false;
  capturing = true;
}
void end_capture() {
  capturing = false;
  TORCH_CHECK(!killed, "simdev: an event was asked for while a stream captured");
}

struct Graph final : at::GraphImplInterface {
  explicit Graph(const at::GraphImplArgs&) {}
  void capture_begin(at::MempoolId_t, at::GraphCaptureMode) override { begin_capture(); }
  void capture_end() override { end_capture(); }
  void instantiate() override {}
  void replay() override {}
  void reset() override {}
  at::MempoolId_t pool() const override { return {0, 0}; }
  void enable_debug_mode() override {}
  void debug_dump(const std::string&) override {}
};

struct Memory final : c10::DeviceAllocator {
  int64_t held = 0, peak = 0, count = 0;
  std::mutex lock;
  static Memory& get() { static Memory memory; return memory; }
  static void release(void* p);
  c10::DataPtr allocate(size_t n) override {
    auto* p = static_cast<char*>(std::aligned_alloc(64, (n + 127) / 64 * 64));
    *reinterpret_cast<size_t*>(p) = n;
    { std::lock_guard<std::mutex> guard(lock); held += n; count++; peak = std::max(peak, held); }
    return {p + 64, p, &release, {kSim, 0}};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t n) const override { default_copy_data(to, from, n); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    std::lock_guard<std::mutex> guard(lock);
    stats.allocated_bytes[0].current = held;
    stats.allocated_bytes[0].peak = peak;
    stats.allocated_bytes[0].allocated = count;
    stats.reserved_bytes[0].current = stats.reserved_bytes[0].peak = peak;
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override { count = 0; }
  void resetPeakStats(c10::DeviceIndex) override { std::lock_guard<std::mutex> guard(lock); peak = held; }
};
void Memory::release(void* p) {
  auto& memory = get();
  { std::lock_guard<std::mutex> guard(memory.lock); memory.held -= *static_cast<size_t*>(p); }
  std::free(p);
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  void resizePrivateUse1Bytes(const c10::Storage& s, size_t n) const override {
    auto fresh = Memory::get().allocate(n);
    std::memcpy(fresh.get(), s.data(), std::min(n, s.nbytes()));
    s.unsafeGetStorageImpl()->set_data_ptr(std::move(fresh));
    s.unsafeGetStorageImpl()->set_nbytes(n);
  }
};

at::Tensor as_cpu(const at::Tensor& t) {  // the same memory
  if (t.device().is_cpu()) return t;
  return at::from_blob(t.data_ptr(), t.sizes(), t.strides(), t.options().device(at::kCPU).requires_grad(false));
}
at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &Memory::get(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}
at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &Memory::get(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}
at::Tensor copy_from(const at::Tensor& self, const at::Tensor& dst, bool non_blocking) {
  as_cpu(dst).copy_(as_cpu(self));
  if (!inside) {
    launch(current, op_ns);
    if (!non_blocking && dst.device().is_cpu()) sync_stream(current);  // as from CUDA to the host
  }
  return dst;
}
at::Scalar local_scalar(const at::Tensor& self) {
  sync_stream(current);
  return as_cpu(self).item();
}
const at::Tensor& resize_to(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  auto* impl = self.unsafeGetTensorImpl();
  size_t bytes = at::detail::computeStorageNbytesContiguous(size, self.dtype().itemsize(), self.storage_offset());
  if (self.storage().nbytes() < bytes) Hooks().resizePrivateUse1Bytes(self.storage(), bytes);
  impl->set_sizes_contiguous(size);
  return self;
}
void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  bool outer = !inside;
  inside = true;
  try { at::native::cpu_fallback(op, stack); } catch (...) { if (outer) inside = false; throw; }
  if (outer) { inside = false; launch(current, op_ns); }
}
at::Tensor view(const at::Tensor& t, at::IntArrayRef size) { return at::native::view(t, size); }
at::Tensor strided(const at::Tensor& t, at::IntArrayRef size, at::IntArrayRef stride, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(t, size, stride, offset);
}
at::Tensor alias(const at::Tensor& t, at::IntArrayRef size, at::IntArrayRef stride) {
  return at::native::_reshape_alias(t, size, stride);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", [](const at::Tensor& a, const at::Tensor& b) { resize_to(b, a.sizes(), std::nullopt); return copy_from(a, b, false); });
  m.impl("_local_scalar_dense", local_scalar);
  m.impl("resize_", resize_to);
  m.impl("view", view);
  m.impl("as_strided", strided);
  m.impl("_reshape_alias", alias);
}
}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  c10::SetAllocator(kSim, &Memory::get());
  m.def("launch", [](int64_t ns) { launch(current, ns); });
  m.def("set_kernel_time", [](int64_t ns) { op_ns = ns; });
  at::GraphImplRegistry()->Register(
      "SIM", [](const at::GraphImplArgs& args) -> std::unique_ptr<at::GraphImplInterface> { return std::make_unique<Graph>(args); });
  m.def("set_capturing", [](bool on) { on ? begin_capture() : end_capture(); });
  m.def("set_clock", [](double ppm, int64_t tick) { drift_ppm = ppm; tick_ns = tick; });
  m.def("queued_until", [] { return tail(current); });
  m.def("counts", [] {
    return std::map<std::string, int64_t>{{"syncs", syncs}, {"records", records}, {"queries", queries},
                                          {"kernels", kernels}, {"live_events", live_events}};
  });
}
