# The Sidekiq program of bench/peers: jobs, and the producer (peer.py says how it is called).
require 'json'
require 'logger'
require 'sidekiq'

PAD = 'x' * Integer(ENV.fetch('PEER_BYTES'))
BURN_S = Float(ENV.fetch('PEER_BURN_S'))
BULK = 1000
REDIS = { path: ENV.fetch('PEER_SERVER') }.freeze

def now
  Process.clock_gettime(Process::CLOCK_MONOTONIC)
end

# Jobs done by this process; the threads of one process share the interpreter's lock.
module Done
  @count = 0
  @lock = Mutex.new

  def self.add
    @lock.synchronize { @count += 1 }
  end

  def self.tell
    path = "#{ENV.fetch('PEER_DONE')}.#{Process.pid}"
    Thread.new do
      File.open(path, 'wb') do |file|
        loop do
          file.pwrite([@count].pack('Q<'), 0)
          sleep 0.002
        end
      end
    end
  end
end

class Noop
  include Sidekiq::Worker

  def perform(_pad)
    Done.add
  end
end

class Burn
  include Sidekiq::Worker

  def perform(_pad)
    finish = Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) + BURN_S
    nil while Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) < finish
    Done.add
  end
end

# There are no results: the job itself answers.
class Answer
  include Sidekiq::Worker

  def perform(key, _pad)
    Sidekiq.redis { |redis| redis.lpush(key, '1') }
    Done.add
  end
end

Sidekiq.configure_client { |config| config.redis = REDIS }
Sidekiq.configure_server do |config|
  config.redis = REDIS
  config.logger = Logger.new(File::NULL)
  config.on(:startup) { Done.tell }
end

JOBS = { 'noop' => Noop, 'burn' => Burn }.freeze

def produce(job, count, how)
  Sidekiq.redis(&:ping)
  start = now
  if how == 'single'
    count.times { job.perform_async(PAD) }
  else
    (0...count).each_slice(BULK) { |part| Sidekiq::Client.push_bulk('class' => job, 'args' => part.map { [PAD] }) }
  end
  { from: start, to: now }
end

def trips(count)
  us = Array.new(count) do |i|
    start = now
    Answer.perform_async("answer:#{i}", PAD)
    Sidekiq.redis { |redis| redis.brpop("answer:#{i}", timeout: 30) }
    (now - start) * 1e6
  end
  { us: us }
end

if $PROGRAM_NAME == __FILE__
  verb, *rest = ARGV
  puts JSON.generate(verb == 'trips' ? trips(Integer(rest[0])) : produce(JOBS.fetch(rest[0]), Integer(rest[1]), rest[2]))
end
