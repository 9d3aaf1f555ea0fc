#ifndef X_HLS_STREAM_SIM_H
#define X_HLS_STREAM_SIM_H

// hls::stream as hardware has it: a FIFO of limited depth between kernels that run side by side, each in a thread of
// its own. A read waits for a word, a write for room. When every kernel that has not ended waits, none can go on:
// that is a deadlock, and the program says what each of them waits for.

#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace threads {

struct kernel {
    std::string name;
    std::function<void()> body; // one sample
    std::string waits;          // what for; empty while it runs and when it has ended
    std::condition_variable wake;
};

inline std::mutex mutex; // guards everything here and the words of every stream
inline std::vector<std::unique_ptr<kernel>> kernels;
inline size_t running = 0;
inline size_t samples = 0;
inline thread_local kernel *self = nullptr;

[[noreturn]] inline void deadlock() {
    std::printf("deadlock:");
    for (const auto &each : kernels)
        if (!each->waits.empty())
            std::printf(" '%s' %s;", each->name.c_str(), each->waits.c_str());
    std::printf("\n");
    std::fflush(stdout);
    std::_Exit(0);
}

inline void pause() {
    if (--running == 0)
        for (const auto &each : kernels)
            if (!each->waits.empty())
                deadlock();
}

inline void wait(std::unique_lock<std::mutex> &lock, kernel *&place, const std::string &what) {
    if (!self) { // all kernels have ended
        std::printf("the end: %s\n", what.c_str());
        std::fflush(stdout);
        std::_Exit(0);
    }
    place = self;
    self->waits = what;
    pause();
    kernel *me = self;
    me->wake.wait(lock, [me] { return me->waits.empty(); });
}

inline void go_on(kernel *&place) {
    if (place) {
        place->waits.clear();
        running++;
        place->wake.notify_one();
        place = nullptr;
    }
}

inline void add(const char *name, std::function<void()> body) {
    kernels.push_back(std::make_unique<kernel>());
    kernels.back()->name = name;
    kernels.back()->body = body;
}

// Run every kernel over all samples; none waits for another but through streams.
inline void run() {
    running = kernels.size();
    std::vector<std::thread> started;
    for (const auto &each : kernels)
        started.emplace_back([me = each.get()] {
            self = me;
            for (size_t i = 0; i < samples; i++)
                me->body();
            std::lock_guard<std::mutex> lock(mutex);
            pause();
        });
    for (auto &each : started)
        each.join();
}

} // namespace threads

namespace hls {

template <typename T> class stream {
    std::string name;
    size_t limit = 0; // words; 0: as many as come
    std::deque<T> words;
    threads::kernel *reader = nullptr;
    threads::kernel *writer = nullptr;

  public:
    stream(const std::string &name = "a stream inside a kernel") : name(name) {}
    stream(const stream &) = delete;
    stream &operator=(const stream &) = delete;
    ~stream() {
        if (!words.empty())
            std::printf("%zu words were left over in '%s'\n", words.size(), name.c_str());
    }

    void depth(size_t words) { limit = words; }
    size_t size() { return words.size(); }
    bool empty() { return words.empty(); }

    T read() {
        std::unique_lock<std::mutex> lock(threads::mutex);
        while (words.empty())
            threads::wait(lock, reader, "waits for a word of '" + name + "'");
        T word = words.front();
        words.pop_front();
        threads::go_on(writer);
        return word;
    }

    void write(const T &word) {
        std::unique_lock<std::mutex> lock(threads::mutex);
        while (limit && words.size() >= limit)
            threads::wait(lock, writer, "waits for room in '" + name + "' (depth " + std::to_string(limit) + ")");
        words.push_back(word);
        threads::go_on(reader);
    }

    void read(T &word) { word = read(); }
    void operator>>(T &word) { word = read(); }
    void operator<<(const T &word) { write(word); }
};

} // namespace hls

#endif
