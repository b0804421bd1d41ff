// The BullMQ program of bench/peers: worker and producer (peer.py says how it is called).
'use strict';
const { Queue, QueueEvents, Worker } = require('bullmq');

const connection = { path: process.env.PEER_SERVER, maxRetriesPerRequest: null };
const data = { pad: 'x'.repeat(Number(process.env.PEER_BYTES)) };
const burnUs = Number(process.env.PEER_BURN_S) * 1e6;
const BULK = 500;

const now = () => Number(process.hrtime.bigint()) / 1e9;

function cpuUs() {
    const used = process.cpuUsage();
    return used.user + used.system;
}

async function perform(job) {
    if (job.name === 'burn') {
        const end = cpuUs() + burnUs;
        while (cpuUs() < end);
    }
    return null;
}

async function produce(task, count, how) {
    const queue = new Queue('bench', { connection });
    await queue.waitUntilReady();
    const from = now();
    if (how === 'single') {
        for (let i = 0; i < count; i++) await queue.add(task, data);
    } else {
        for (let i = 0; i < count; i += BULK) {
            const n = Math.min(BULK, count - i);
            await queue.addBulk(Array.from({ length: n }, () => ({ name: task, data })));
        }
    }
    const to = now();
    await queue.close();
    return { from, to };
}

async function trips(count) {
    const queue = new Queue('bench', { connection });
    const events = new QueueEvents('bench', { connection });
    const us = [];
    await queue.waitUntilReady();
    await events.waitUntilReady();
    for (let i = 0; i < count; i++) {
        const start = now();
        const job = await queue.add('noop', data);
        await job.waitUntilFinished(events, 30000);
        us.push((now() - start) * 1e6);
    }
    await events.close();
    await queue.close();
    return { us };
}

async function main() {
    const [verb, ...rest] = process.argv.slice(2);
    if (verb === 'worker') {
        const worker = new Worker('bench', perform, { connection, concurrency: Number(rest[0]) });
        process.on('SIGTERM', () => worker.close().then(() => process.exit(0)));
        return;
    }
    const answer = verb === 'trips' ? await trips(Number(rest[0])) : await produce(rest[0], Number(rest[1]), rest[2]);
    console.log(JSON.stringify(answer));
    process.exit(0);
}

main();
