// The JavaScript client against a cluster with a node, named by KUBECONFIG.

import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import * as k8s from '@kubernetes/client-node';

const namespace = 'default';
const PATIENCE = 30_000;

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);

async function until(what, look) {
  const end = Date.now() + PATIENCE;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await sleep(20);
  }
  throw new Error(`not so after ${PATIENCE} ms: ${what}`);
}

const map = (name, data) => ({ metadata: { name, labels: { of: name } }, data });
const pod = (name, container, more) => ({
  metadata: { name },
  spec: { containers: [{ name: 'main', image: 'coracle/echo', ...container }], terminationGracePeriodSeconds: 0, ...more },
});
const phase = async (name) => (await core.readNamespacedPod({ name, namespace })).status.phase;

before(async () => {
  await until('a service account', async () => (await core.listNamespacedServiceAccount({ namespace })).items.length);
  await core.createNamespacedPod({ namespace, body: pod('echo', {}) });
  await until('a running pod', async () => (await phase('echo')) === 'Running');
});

after(async () => {
  await core.deleteNamespacedPod({ name: 'echo', namespace });
});

test('objects are made, listed, changed and deleted', async () => {
  const made = await core.createNamespacedConfigMap({ namespace, body: map('plain', { a: '1' }) });
  assert.ok(made.metadata.creationTimestamp instanceof Date);
  await assert.rejects(core.createNamespacedConfigMap({ namespace, body: map('plain') }), (error) => error.code === 409);
  made.data.b = '2';
  await core.replaceNamespacedConfigMap({ name: 'plain', namespace, body: made });
  await assert.rejects(core.replaceNamespacedConfigMap({ name: 'plain', namespace, body: made }), { code: 409 });
  const listed = await core.listNamespacedConfigMap({ namespace, labelSelector: 'of=plain' });
  assert.deepEqual(listed.items.map((item) => item.data), [{ a: '1', b: '2' }]);
  const deleted = await core.deleteNamespacedConfigMap({ name: 'plain', namespace });
  assert.equal(deleted.status, 'Success');
  await assert.rejects(core.readNamespacedConfigMap({ name: 'plain', namespace }), { code: 404 });
});

test('every kind of patch', async () => {
  const labels = { app: 'patched' };
  const body = {
    metadata: { name: 'patched' },
    spec: { replicas: 0, selector: { matchLabels: labels }, template: { metadata: { labels }, spec: pod('', {}).spec } },
  };
  await apps.createNamespacedDeployment({ namespace, body });
  const patch = (body, strategy, more) =>
    apps.patchNamespacedDeployment(
      { name: 'patched', namespace, body, ...more },
      k8s.setHeaderOptions('Content-Type', strategy),
    );
  const names = (seen) => seen.spec.template.spec.containers.map((container) => container.name).sort();
  const side = { spec: { template: { spec: { containers: [{ name: 'side', image: 'coracle/echo' }] } } } };
  assert.deepEqual(names(await patch(side, k8s.PatchStrategy.StrategicMergePatch)), ['main', 'side']);
  assert.deepEqual(names(await patch(side, k8s.PatchStrategy.MergePatch)), ['side']);
  const operations = [{ op: 'replace', path: '/spec/template/spec/containers/0/name', value: 'renamed' }];
  assert.deepEqual(names(await patch(operations, k8s.PatchStrategy.JsonPatch)), ['renamed']);
  const applied = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'patched', labels: { a: 'b' } } };
  const apply = { fieldManager: 'tests', force: true };
  const seen = await patch(applied, k8s.PatchStrategy.ServerSideApply, apply);
  assert.deepEqual(seen.metadata.labels, { a: 'b' });
  await apps.deleteNamespacedDeployment({ name: 'patched', namespace });
});

test('objects of any kind', async () => {
  const objects = k8s.KubernetesObjectApi.makeApiClient(config);
  const wanted = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'generic', namespace }, data: { a: '1' } };
  await objects.create(wanted);
  await objects.patch({ ...wanted, data: { a: '2' } }, undefined, undefined, undefined, undefined, k8s.PatchStrategy.MergePatch);
  assert.deepEqual((await objects.read(wanted)).data, { a: '2' });
  await objects.delete(wanted);
  await assert.rejects(objects.read(wanted), { code: 404 });
});

test('watches and informers', async () => {
  const seen = [];
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'of=informed' });
  const informer = k8s.makeInformer(config, path, list, 'of=informed');
  for (const verb of [k8s.ADD, k8s.UPDATE, k8s.DELETE]) {
    informer.on(verb, (item) => seen.push(`${verb} ${item.data.a}`));
  }
  informer.on(k8s.ERROR, (error) => seen.push(`error ${error}`));
  const begin = (await list()).metadata.resourceVersion;
  await informer.start();
  await core.createNamespacedConfigMap({ namespace, body: map('informed', { a: '1' }) });
  await until('an arrival', () => informer.get('informed', namespace));
  const change = { name: 'informed', namespace, body: { data: { a: '2' } } };
  await core.patchNamespacedConfigMap(change, k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
  await core.deleteNamespacedConfigMap({ name: 'informed', namespace });
  await until('the end', () => seen.length >= 3);
  assert.deepEqual(seen, ['add 1', 'update 2', 'delete 2']);
  await informer.stop();

  // The same from the history, and the end by the server's time-out.
  const told = [];
  await new Promise((resolve, reject) => {
    const query = { labelSelector: 'of=informed', resourceVersion: begin, timeoutSeconds: 1 };
    const done = (error) => (error ? reject(error) : resolve());
    new k8s.Watch(config).watch(path, query, (type, item) => told.push([type, item.data.a]), done).catch(reject);
  });
  assert.deepEqual(told, [['ADDED', '1'], ['MODIFIED', '2'], ['DELETED', '2']]);
});

test('commands in containers', async () => {
  const run = async (command, input) => {
    const [out, err] = [new PassThrough(), new PassThrough()];
    const status = await new Promise((resolve, reject) => {
      new k8s.Exec(config).exec(namespace, 'echo', 'main', command, out, err, input, false, resolve).catch(reject);
    });
    out.end();
    err.end();
    return { status, out: await text(out), err: await text(err) };
  };
  const version = await run(['/coracle', '--version'], null);
  assert.equal(version.status.status, 'Success');
  assert.match(version.out, /^coracle /);
  const wrong = await run(['/coracle', 'no-such-command'], null);
  assert.equal(wrong.status.reason, 'NonZeroExitCode');
  assert.match(wrong.err, /no-such-command/);
});

test('ports of pods', async () => {
  const [output, errors, input] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const socket = await new k8s.PortForward(config).portForward(namespace, 'echo', [80], output, errors, input);
  input.write('GET / HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n');
  let answer = '';
  output.on('data', (chunk) => (answer += chunk));
  await until('an answer', () => answer.includes('pod: echo'));
  assert.match(answer, /^HTTP\/1.1 200 OK/);
  socket.close();
});

test('logs', async () => {
  const once = pod('once', { command: ['/coracle', '--version'] }, { restartPolicy: 'Never' });
  await core.createNamespacedPod({ namespace, body: once });
  await until('the end of the pod', async () => (await phase('once')) === 'Succeeded');
  const said = await core.readNamespacedPodLog({ name: 'once', namespace });
  assert.match(said, /^coracle /);
  const stream = new PassThrough();
  await new k8s.Log(config).log(namespace, 'once', 'main', stream, { follow: true });
  assert.equal(await text(stream), said);
  await core.deleteNamespacedPod({ name: 'once', namespace, gracePeriodSeconds: 0 });
});
